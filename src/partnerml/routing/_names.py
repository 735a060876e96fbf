"""Names of companies and domains as keys: what is the same to people is the same text, or nearly."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt

from partnerml.errors import require

# where anybody may have an address: two leads from there have nothing in common
FREE_MAIL = frozenset(
    (
        *("gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "hotmail.co.uk"),
        *("hotmail.fr", "hotmail.de", "outlook.de", "outlook.fr", "live.de", "yahoo.com", "yahoo.co.uk", "yahoo.co.jp"),
        *("yahoo.de", "yahoo.fr", "yahoo.es", "yahoo.it", "yahoo.com.br", "ymail.com", "rocketmail.com", "icloud.com"),
        *("me.com", "mac.com", "aol.com", "proton.me", "protonmail.com", "pm.me", "tutanota.com", "fastmail.com"),
        *("gmx.de", "gmx.net", "gmx.at", "gmx.ch", "gmx.com", "web.de", "t-online.de", "freenet.de", "mail.com"),
        *("orange.fr", "wanadoo.fr", "free.fr", "laposte.net", "sfr.fr", "libero.it", "virgilio.it", "tiscali.it"),
        *("mail.ru", "yandex.ru", "yandex.com", "bk.ru", "inbox.ru", "qq.com", "163.com", "126.com", "sina.com"),
        *("naver.com", "daum.net", "hanmail.net", "uol.com.br", "bol.com.br", "terra.com.br", "ig.com.br", "wp.pl"),
        *("o2.pl", "onet.pl", "interia.pl", "seznam.cz", "bluewin.ch", "zoho.com", "hey.com", "duck.com", "att.net"),
        *("comcast.net", "verizon.net", "btinternet.com", "rediffmail.com", "bigpond.com", "mailinator.com"),
    )
)

# words that say of what form a company is, not which one; folded, without dots
_LEGAL_FORMS = frozenset(
    (
        *("ab", "ag", "aktiengesellschaft", "aps", "as", "asa", "bhd", "bv", "bvba", "co", "company", "corp"),
        *("corporation", "cv", "doo", "dd", "eg", "ek", "eireli", "eood", "esp", "eurl", "ev", "gbr", "ges", "gesmbh"),
        *("gmbh", "hf", "inc", "incorporated", "kft", "kg", "kgaa", "kk", "kommanditgesellschaft", "lda", "limitada"),
        *("limited", "llc", "llp", "lp", "ltd", "ltda", "mbh", "nv", "nyrt", "ohg", "ood", "oy", "oyj", "plc", "pllc"),
        *("pt", "pte", "pty", "pvt", "private", "sa", "sapi", "sarl", "sas", "sasu", "sci", "scs", "sdn", "se", "sia"),
        *("sl", "slu", "snc", "sp", "spa", "spk", "sprl", "srl", "sro", "tbk", "ug", "uab", "vof"),
        *("zrt", "haftungsbeschrankt"),
    )
)
# those that stand in front, too: PT Acme, Oy Acme
_IN_FRONT = frozenset(("ab", "oao", "ooo", "oy", "pao", "pt", "sarl", "sas", "sia", "spa", "srl", "uab", "zao"))
# what stands in a form where nobody knew, or wished to tell, the name: two such leads have nothing in common; folded
_NO_NAMES = frozenset(
    (
        *("unknown", "na", "n a", "none", "null", "nil", "nan", "undefined", "missing", "empty", "blank", "tbd", "tba"),
        *("tbc", "to be determined", "to be confirmed", "test", "tests", "testing", "test company", "test account"),
        *("test lead", "dummy", "asdf", "qwerty", "xx", "xxx", "xxxx", "no name", "noname", "no company", "company"),
        *("company name", "my company", "your company", "not provided", "not available", "not applicable"),
        *("not specified", "not known", "not given", "not disclosed", "undisclosed", "confidential", "anonymous"),
        *("private", "private person", "private individual", "private customer", "individual", "self"),
        *("self employed", "selfemployed", "freelance", "freelancer", "unbekannt", "keine", "keine angabe"),
        *("keine angaben", "privat", "privatperson", "privatkunde", "selbstandig", "inconnu", "particulier"),
        *("non renseigne", "desconocido", "ninguno", "ninguna", "sin nombre", "particular", "sconosciuto"),
        *("privato", "desconhecido", "nenhum", "onbekend", "geen", "okand", "ukendt", "nieznany", "brak"),
    )
)
_FILLERS = frozenset(("and", "und", "et", "og", "och", "the"))
_SPOLKA = re.compile(r"\b(?:sp(?:[oó][lł]ka)?\.? ?z ?o\.? ?o|z ?o\. ?o)\b\.?", re.IGNORECASE)
# single letters that dots or slashes hold together: G.m.b.H., S.p.A., A/S
_INITIALS = re.compile(r"\b(?:\w[./] ?)+\w\b\.?")
_NUMBER = re.compile(r"\d+|\b(?:i{2,3}|iv|vi{0,3}|ix|xi{0,3})\b")  # in digits, or Roman from II to XIII
_PURPOSE = "names of companies that are alike"
_NO_NAME = 1 << 40
_APOSTROPHES = "'`\u2019"
_SPECIAL = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe"})  # no accents to Unicode


@functools.lru_cache(maxsize=1 << 16)
def normalised(name: str | None) -> str | None:
    """Return the name of a company without case, accents, punctuation and legal form; None where nothing is left.

    Of a name that consists of such words alone, all of them are kept: they are all that tells it from others. A text
    that stands for no name (*unknown*, *n/a*, *test*) is none.

    Examples
    --------
    >>> normalised("Müller & Söhne G.m.b.H."), normalised("MULLER SOHNE")
    ('muller sohne', 'muller sohne')
    >>> normalised("The Limited Company"), normalised("N/A")
    ('the limited company', None)
    """
    if name is None:
        return None
    joined = _INITIALS.sub(lambda found: re.sub(r"[./ ]", "", found[0]) + " ", _without_spolka(name))
    plain = unicodedata.normalize("NFKD", joined.casefold().translate(_SPECIAL)).casefold()
    letters = "".join(
        c if c.isalnum() else " " for c in plain if not unicodedata.combining(c) and c not in _APOSTROPHES
    )
    words = letters.split()
    told = [word for word in _without_form(words) if word not in _FILLERS]
    found = " ".join(told or words)
    return found if found and not {found, " ".join(words)} & _NO_NAMES else None


def _without_spolka(name: str) -> str:
    """Take off a Polish legal form of several words, unless it is the whole name."""
    return _SPOLKA.sub(" ", name).strip() or name


def _without_form(words: list[str]) -> list[str]:
    """Take legal forms off the end (`Acme Holding Ltd`), and one off the beginning (`PT Acme`)."""
    last = len(words)
    while last and (words[last - 1] in _LEGAL_FORMS or words[last - 1] in _FILLERS):
        last -= 1
    first = 1 if last > 1 and words[0] in _IN_FRONT else 0
    return words[first:last]


def domain_key(domain: str | None) -> str | None:
    """Return a domain to compare by; None for none, and for one where anybody may have an address.

    Examples
    --------
    >>> domain_key("https://www.Acme.com/contact"), domain_key("jo@acme.com"), domain_key("gmail.com")
    ('acme.com', 'acme.com', None)
    """
    if domain is None:
        return None
    host = domain.strip().lower().partition("://")[2] or domain.strip().lower()
    host = host.partition("/")[0].partition("?")[0].rpartition("@")[2].partition(":")[0].strip(". ")
    host = host.removeprefix("www.")
    return None if host in FREE_MAIL or "." not in host else host


@dataclasses.dataclass(frozen=True)
class Names:
    """Normalised names among which those that are alike one are found.

    Two names are as alike as rapidfuzz's ``token_sort_ratio`` says: with their words in order, 100 (1 - d / s), where d
    is how many characters must go or come to make one of the other, and s how many they have together. Each of those
    changes the count of one character by one; so the counts alone, as bits, rule most names out.

    Attributes
    ----------
    texts : sequence of str or None
        None is no name.
    bits : array of uint64, shape (n,)
        Two for each of 32 groups of characters: whether there is one, and whether there are two.
    size : array of int, shape (n,)
        Characters; a large number where there is no name.
    """

    texts: Sequence[str | None]
    bits: npt.NDArray[np.uint64]
    size: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Names:
        """Take names as `normalised` gives them."""
        bits = np.array([0 if text is None else _bits(text) for text in texts], dtype=np.uint64)
        size = np.array([_NO_NAME if text is None else len(text) for text in texts], dtype=np.int64)
        return cls(texts, bits, size)

    def alike(self, name: str, threshold: float) -> list[tuple[int, float]]:
        """Return the names that score at least `threshold` of 100, as (place, score) in order of their places."""
        process = require("rapidfuzz.process", "routing", _PURPOSE)
        # a hair above, for the rounding of either side
        share = 1.0 - threshold / 100.0 + 1e-6
        # |size - length| <= share (size + length)
        longest = (1.0 + share) / (1.0 - share) * len(name)
        near = np.flatnonzero((self.size * longest >= len(name) ** 2) & (self.size <= longest))
        changed = np.bitwise_count(self.bits[near] ^ np.uint64(_bits(name)))
        near = near[changed <= share * (self.size[near] + len(name))]
        texts = [self.texts[place] for place in near.tolist()]
        scorer = _fuzz().token_sort_ratio
        found = process.extract(name, texts, scorer=scorer, score_cutoff=threshold, limit=None)
        return sorted((int(near[place]), float(score)) for _, score, place in found)


def likeness(name: str, other: str) -> float:
    """Return how alike two normalised names are, 0 to 100 (rapidfuzz's ``token_sort_ratio``)."""
    return float(_fuzz().token_sort_ratio(name, other))


def numbered_apart(name: str, other: str) -> bool:
    """Tell whether two normalised names have other numbers, which tell a chain's places and a firm's funds apart.

    Examples
    --------
    >>> numbered_apart("pharmacy 101 springfield", "pharmacy 102 springfield"), numbered_apart("3m", "3 m")
    (True, False)
    >>> numbered_apart("capital partners ii", "capital partners iii")
    True
    """
    return _numbers(name) != _numbers(other)


def _numbers(name: str) -> list[str]:
    return sorted(_NUMBER.findall(name))


def _fuzz() -> ModuleType:
    return require("rapidfuzz.fuzz", "routing", _PURPOSE)


def _bits(text: str) -> int:
    once = twice = 0
    for character in text:
        bit = 1 << (ord(character) & 31)
        twice |= once & bit
        once |= bit
    return once | twice << 32
