"""What outfits must be, as the command line has it."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fhn_jax.cli import answers
from fhn_jax.cli.command import Flag
from fhn_jax.cli.run import Run
from fhn_jax.codes import Codes
from fhn_jax.data.item_names import ItemNames
from fhn_jax.errors import InputError, MissingFileError

FLAGS = (
    Flag(
        "where",
        (),
        "Condition on the items: 'price<=80', 'season in {summer,winter}', in_stock, "
        "'shoe:brand!=X'",
    ),
    Flag(
        "only", (), "Items alone that outfits may have of their categories: top:4,top:7"
    ),
    Flag("without", (), "Items that outfits must not have: shoe:4,SKU-9"),
    Flag("at-most", (), "In how many outfits a value may be: brand=2,item=1"),
    Flag("include-seen", False, "Whether to include what the user likes already"),
)


@dataclasses.dataclass(frozen=True)
class Given:
    """The values of `FLAGS`; what is given several times adds up."""

    where: Sequence[str] = ()
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    at_most: Sequence[str] = ()
    include_seen: bool = False

    def about(self) -> dict[str, Any]:
        """What was asked, for the answer's file."""
        values = dataclasses.asdict(self)
        return {
            name: value if isinstance(value, bool) else list(value)
            for name, value in values.items()
            if value
        }

    def caps(self) -> dict[str, int]:
        """Attribute -> the most outfits with a value of it.

        Raises:
          InputError: a text is not that, or two are of the same attribute.
        """
        caps = {}
        text = ",".join(self.at_most)
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = part.rpartition("=")
            if not name.strip() or not number.strip().isdecimal():
                raise InputError(
                    f"--at-most: {part[:80]!r} is no limit; expected an attribute or "
                    "item, and a number, such as brand=2"
                )
            if name.strip() in caps:
                raise InputError(
                    f"--at-most: {name.strip()[:80]!r} comes twice; expected once"
                )
            caps[name.strip()] = int(number)
        return caps

    def filters(
        self, names: ItemNames, fixed: Mapping[str, Sequence[int]] = {}
    ) -> list[Any]:
        """The filters for all users; items that the shop has no more are left out.

        Args:
          fixed: category -> items that each outfit must have.
        Raises:
          InputError: an unknown item, no condition, or what must be there must not.
        """
        from fhn_jax.retrieval.filters import Only, Without
        from fhn_jax.retrieval.where import Where

        found: list[Any] = [Only(names.available)] if names.available else []
        for flag, kind in (("only", Only), ("without", Without)):
            texts = getattr(self, flag)
            items = answers.parse_items(texts, names, f"--{flag}")
            for category, ids in items.items():
                ours = {*fixed.get(category, ())}
                if wrong := ours & {*ids} if kind is Without else ours - {*ids}:
                    label = names.label(names.categories.index(category), min(wrong))
                    raise InputError(
                        f"--fixed asks for {category} {label!r}, which --{flag}="
                        f"{','.join(texts)[:80]} leaves out; give one of them"
                    )
            found += [kind(items, ",".join(texts)[:80])] if items else []
        return [*found, Where(*self.where)] if self.where else found

    def seen(self, run: Run, codes: Codes) -> Any:
        """What each user likes, as a `Seen`; None if it is not to be left out."""
        if self.include_seen:
            return None
        from fhn_jax.recommender.stored import owned_outfits

        try:
            return owned_outfits(codes, run.catalogue())
        except MissingFileError as error:
            print(f"what users like already is not left out: {error}", file=sys.stderr)
            return None


def attributes_of(run: Run, codes: Codes, names: ItemNames) -> Any:
    """The `Attributes` of the items of what is served; None if the shop has none."""
    from fhn_jax.recommender.stored import kept_attributes

    return kept_attributes(run.workdir, codes, run.root, names)
