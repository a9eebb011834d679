"""Programs that make, change and show data, as commands."""

from fhn_jax.cli.command import Program

COMMANDS = tuple(
    Program(name, text, f"fhn_jax.data_tools.{name.replace('-', '_')}")
    for name, text in (
        ("import-catalogue", "Import a shop's own tables and photos"),
        ("import-iqon3000", "Import IQON3000, outfits with photos and their makers"),
        ("import-pog", "Import POG (Alibaba iFashion), outfits and clicks of users"),
        ("import-polyvore-outfits", "Import Polyvore Outfits, which have no users"),
        ("import-shift15m", "Import SHIFT15M, outfits with features and their makers"),
        ("fetch", "Fetch Polyvore-U from the Hugging Face hub"),
        ("make-demo", "Draw the demo data: garments and simulated users"),
        ("embed-text", "Make text vectors of items from their titles"),
        ("embed-images", "Make features of images with a pretrained network"),
        ("cut-out", "Cut garments out of their photos, to be shown on white"),
        ("build-lmdb", "Build an LMDB of images from a folder of image files"),
        ("split-users", "Make a variant of some users, or of some of their outfits"),
        ("make-fitb", "Make fill-in-the-blank questions"),
        ("export-ranked", "Show the outfits that a run ranks best"),
        ("convert-semantic", "Convert the text vectors of Polyvore-U to an npz file"),
        ("convert-weights", "Convert weights saved by PyTorch to safetensors"),
        (
            "convert-reference-checkpoint",
            "Convert a network trained with the reference to a workdir",
        ),
    )
) + (
    Program(
        "inspect",
        "Report what is wrong or odd about a data set",
        "fhn_jax.data_tools.inspect_data",
    ),
    Program(
        "verify",
        "Compare a run, an index or a data set with its checksums",
        "fhn_jax.cli.verify",
    ),
    Program("compare", "Show the results of runs side by side", "fhn_jax.cli.compare"),
    Program(
        "sweep", "Print the commands of a comparison, or its table", "fhn_jax.cli.sweep"
    ),
)
