"""Which slot a shop's category belongs to, guessed from its name.

The names are the common ones of shops in English, German, French, Spanish, Italian and
Dutch. The last word of a category decides ("shirt dress" is a dress, "Damen > Schuhe" are
shoes), before any "with", "de" or the like ("pantalon de costume" are trousers).
"""

import re
import unicodedata

_WORDS = {
    "top": """top shirt tshirt tee blouse longsleeve polo undershirt hoodie sweater
        jumper pullover sweatshirt cardigan knit knitwear tank camisole tunic bodysuit
        vest oberteil hemd bluse pulli strickjacke strickpullover kapuzenpullover tunika
        unterhemd haut chemise chemisier pull gilet debardeur camiseta camisa blusa
        jersey sudadera camicia maglia maglietta maglione felpa overhemd trui trui""",
    "bottom": """bottom pant trouser jean short skirt legging chino jogger sweatpant
        culotte hose rock jeanshose shorts leggings jogginghose pantalon jupe bas
        falda vaquero pantaloni pantalone gonna broek rok spijkerbroek""",
    "shoe": """shoe sneaker boot sandal heel trainer loafer pump flat slipper footwear
        mule clog espadrille ballerina moccasin schuh turnschuh stiefel stiefelette
        sandale halbschuh absatzschuh chaussure basket botte bottine escarpin zapato
        zapatilla bota sandalia scarpa stivale sandalo scarpe stivali schoen laars""",
    "dress": """dress gown jumpsuit overall romper playsuit onepiece kleid robe
        combinaison vestido mono vestito abito jurk""",
    "outerwear": """outerwear jacket coat blazer parka anorak trench trenchcoat
        overcoat windbreaker raincoat poncho cape bomber jacke mantel sakko veste
        manteau blouson doudoune chaqueta abrigo cazadora giacca cappotto giubbotto
        jas mantel outwear""",
    "bag": """bag handbag backpack tote clutch purse satchel rucksack tasche handtasche
        sac bolso mochila bolsa borsa zaino tas rugzak""",
    "accessory": """accessory accessorie hat cap beanie scarf glove belt tie sunglass
        sunglasse jewelry jewellery necklace earring bracelet ring watch headwear mutze
        hut schal handschuh gurtel krawatte sonnenbrille schmuck kette ohrring armband
        uhr accessoire chapeau bonnet echarpe ceinture bijou montre gafas sombrero
        bufanda cinturon accesorio cappello sciarpa cintura accessorio riem sjaal""",
}
SLOTS = tuple(_WORDS)
# What has the name of a garment beside its own, and is none: shoe care, sneaker socks.
_NO_GARMENTS = """sock stocking tights hosiery care cleaner polish laces insole socke
    strumpf strumpfhose pflege schuhpflege reinigung schuhcreme schnursenkel senkel sohle
    einlegesohle schuhspanner schuhbeutel chaussette collant entretien cirage lacet
    semelle calcetin cuidado cordones plantilla calzino calza laccio soletta sok veter
    inlegzool onderhoud"""
# What outfits are where nobody says it: those of them whose slots a catalogue has.
TEMPLATES = (
    ("top", "bottom", "shoe", "outerwear"),
    ("dress", "shoe", "outerwear"),
    ("top", "bottom", "shoe"),
    ("dress", "shoe"),
)
_SLOT_OF: dict[str, str | None] = dict.fromkeys(_NO_GARMENTS.split())
_SLOT_OF |= {word: slot for slot, words in _WORDS.items() for word in words.split()}
# Longest first: "jeansjacke" ends as "jacke" does, and as "e".
_ENDINGS = sorted((w for w in _SLOT_OF if len(w) > 3), key=len, reverse=True)
_BEFORE = re.compile(
    r"\b(?:with|without|for|of|in|mit|ohne|fur|de|des|du|en|a|aux|avec|pour|con|sin|"
    r"para|per|di|da|met|voor|van)\b"
)


def guess_slot(category: str) -> str | None:
    """The slot of a shop's category, or None where its name says nothing.

    >>> [guess_slot(name) for name in ("T-Shirts", "Women > Shirt dresses", "Gift cards")]
    ['top', 'dress', None]
    >>> [guess_slot(name) for name in ("Sneaker-Socken", "Schuhe > Schuhpflege")]
    [None, None]
    """
    plain = unicodedata.normalize("NFKD", category.casefold().replace("ß", "ss"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"\b(t|one)[- ](?=shirt|piece)", r"\1", plain)
    for part in reversed(re.split(r"[>/|\\:]+", plain)):
        words = re.findall(r"[a-z]+", _BEFORE.split(part)[0] or part)
        for word in reversed(words):
            for form in _forms(word):
                if form in _SLOT_OF:
                    return _SLOT_OF[form]
        for word in reversed(words):
            for form in _forms(word):
                for ending in _ENDINGS:
                    if form.endswith(ending):
                        return _SLOT_OF[ending]
    return None


def _forms(word: str) -> list[str]:
    """A word as it is, and as the singular that it may be the plural of."""
    return [word] + [
        word.removesuffix(ending)
        for ending in ("s", "es", "en", "er", "n", "e", "x")
        if word.endswith(ending)
    ]
