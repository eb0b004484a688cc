"""
What a recording's channel names mean: an electrode, a pair of two, something that is not EEG, or nothing certain.

[`resolve_channel`] reads one name. [`read_channels`] reads all names of a recording: A1 is an ear lobe beside C3 and
Cz, but a site on a cap or the contact of a depth electrode beside A3 and A4. Names are compared as a whole, never in
parts: `CQ_AF3` is not AF3.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .caps import NET_POSITIONS, NETS, POSITIONS, TEN_TWENTY


# Other names of the same position: the 10-20 system before 1991, mastoids and ear lobes, and the sites below O1 and O2
# of Neuroscan's caps, where 10-05 has POO7 and POO8.
ALIASES = {
    "T3": "T7",
    "T4": "T8",
    "T5": "P7",
    "T6": "P8",
    "O9": "I1",
    "O10": "I2",
    "CB1": "POO7",
    "CB2": "POO8",
    "LM": "M1",
    "RM": "M2",
    "MA1": "M1",
    "MA2": "M2",
    "MASG": "M1",  # mastoïde gauche, droite
    "MASD": "M2",
}
CANONICAL = {name.upper(): name for name in POSITIONS} | ALIASES
# Electrodes that a sleep laboratory may have beside Fp1 and Fp2.
_TEN_TWENTY_WITH_EARS = {*TEN_TWENTY, "Fpz", "Oz", "A1", "A2", "M1", "M2"}

# What other scripts write for our letters and signs; NFKD takes care of full width, super- and subscripts.
_LOOK_ALIKES = {
    ord(foreign): letter
    for letter, alike in {
        **{"A": "АΑ", "B": "ВΒ", "C": "СϹ", "E": "ЕΕ", "F": "ҒϜ", "H": "НΗ", "I": "ІΙ", "J": "Ј", "K": "КΚ"},
        **{"M": "МΜ", "N": "Ν", "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "X": "ХΧ", "Y": "УΥ", "Z": "Ζ"},
        **{"/": "⁄∕⧸╱", ":": "∶꞉ː", "_": "‗ˍ", "'": "´`‘’ʹʼ′", "-": "\u00ad−⁃˗ー─→➝›»", " ": "\u2800\u3164"},
    }.items()
    for foreign in alike
}
_OTHER_LANGUAGES = {"ЭЭГ": "EEG", "ЭКГ": "ECG", "ЭОГ": "EOG", "ЭМГ": "EMG"}
_OTHER_LANGUAGES |= {"眼": "EOG", "心电": "ECG", "心電": "ECG", "肌电": "EMG", "肌電": "EMG"}

_SEPARATOR = r"[\s\-_:/>.,|~\\]"
_ELECTRODE = "|".join(sorted(map(re.escape, CANONICAL), key=len, reverse=True))
# Prefixes of an electrode: the kind of signal, the name of an amplifier or a stream, a part of the head.
_PREFIX = re.compile(
    rf"^(?:(?:EEG|POL|RAW|CH(?:AN(?:NEL)?)?\s?\d*|BRAINVISION RDA|LIVEAMP|ACTICHAMP|UNICORN|MUSE|OPENBCI){_SEPARATOR}+"
    rf"(?:(?:FRONT|CENT|PAR|OCC|TEMP)[A-Z]*{_SEPARATOR}+)?|EEG(?=\())+"
)
_UNIT = re.compile(rf"{_SEPARATOR}*[(\[](?:[UMN]?V|EEG)[)\]]$|{_SEPARATOR}+(?:UV|EEG)$")
# A blank inside an electrode (CP 6, F p1); A, I, M and N with a number are as likely inputs of an amplifier.
_WITH_BLANKS = "|".join(
    " ?".join(re.findall(r"\d+H?$|[A-Z]", name))
    for name in sorted(CANONICAL, key=len, reverse=True)
    if re.fullmatch(r"(?![AIMN]\d)[A-Z]+(\d+H?|(?<=[A-Z])ZH?)", name)
)
_BLANK_INSIDE = re.compile(rf"(?<![A-Z\d])(?:{_WITH_BLANKS})(?![A-Z\d])")
# Ear lobes and mastoids in words.
_PLACE = {"A": rf"EAR(?:{_SEPARATOR}*LOBE)?", "M": r"MASTOID"}
_IN_WORDS = {
    name: re.compile(
        rf"(?<![A-Z\d])(?:(?:{side}{_SEPARATOR}*|{side[0]}{_SEPARATOR}+){_PLACE[name[0]]}|"
        rf"{_PLACE[name[0]]}{_SEPARATOR}+(?:{side}|{side[0]}))(?![A-Z\d])"
    )
    for name, side in {"A1": "LEFT", "A2": "RIGHT", "M1": "LEFT", "M2": "RIGHT"}.items()
}
# The number of a channel before its name (01-Fp1, 2: F3).
_NUMBERED = re.compile(r"\s*#?0*(\d{1,3})[\s\-_:.)]+(\S.*)")
# Suffixes of an electrode: the reference that all channels share, by kind.
_LINKED_EARS, _LINKED_MASTOIDS = (rf"\(*{ear}1[\W_]*{ear}2\)*(?:/2)?|\(*{ear}2[\W_]*{ear}1\)*(?:/2)?" for ear in "AM")
_REFERENCES = {
    "average": r"C?AR|(?:COMMON[ _]?)?AV(?:E|G|E?R)?(?:AGE)?(?:[ _]?REF)?|AVG\w*|AVE?R\w*|MEAN",
    "linked ears": rf"C?LE|LER|EARS?|LINKED(?:[ _]?EARS?)?|{_LINKED_EARS}",
    "linked mastoids": rf"(?:LINKED[ _]?)?MAST\w*|{_LINKED_MASTOIDS}|TP9[\W_]*TP10",
    # a reference of unknown kind; A23456 is made of the contacts of a switch
    "reference": r"[VC]?REF\w*|RE|NOSE|X|CS\d?|G\d?|GND|COM(?:MON)?|CMS|ORG|[AM][12]\d{2,}",
}
_LABELS = "|".join(f"(?P<{kind.replace(' ', '_')}>{pattern})" for kind, pattern in _REFERENCES.items())
_REFERENCED = re.compile(rf"^(?P<rest>.*?[A-Z\d])(?:{_SEPARATOR}+\(?|\()(?:{_LABELS})\)?$")
_REFERENCED_WITHOUT_SEPARATOR = re.compile(rf"^(?P<rest>{_ELECTRODE}|[A-Z]+0\d)(?:{_LABELS})$")
# MNE numbers channels of the same name: C3-0, C3-1. A leading zero is different: C3-01 is C3-O1 with a zero for O.
_DUPLICATE = re.compile(r"^(.*)-(?:\d|[1-9]\d)$")


def _begins(words: str) -> str:
    """A name that is or begins with one of these words."""
    return rf"^(?:{'|'.join(words.split())})(?![A-Z])"


def _abbreviation(letters: str) -> str:
    """ECG, also with one or two letters before or after it: zECG, ECGII, ECGleft, but not ECGlike."""
    return rf"(?:^|[^A-Z])[A-Z]{{0,2}}{letters}(?:(?![A-Z]{{3}})|(?=LEFT|RIGHT|CHIN|LEG|LOW|UPP|VERT|HOR|SUB))"


# Kinds of channels that are not EEG, by words in their names; the first match counts. Some words belong to one maker
# or one large sleep study.
_NON_EEG = {
    "INTERNAL": [r"^\$"],
    "DUMMY": [r"^(-+\d*)?$"],
    "QUALITY": [_begins("CQ EQ HSI IMP RAWCQ"), "QUALITY|IMPEDANCE"],
    "DERIVED": [
        _begins(r"IBI BURSTS? SUPPR DELTA THETA ALPHA (LOW|HIGH)?BETA GAMMA SIGMA SMR POW"),
        "^DERIVED|ENVELOPE|^AEEG",
    ],
    "TRIG": [
        r"^(STI(M\w*|\b| ?\d+)|D?TRIG|TRG|DIG |STATUS|TTL|DIN ?\d|GATE ?IN|MARK(ER|\d))",
        r"(MARKERS?|TRIGGER|ANNOTATIONS)$|^(RESPONSE|PAT|TECH|MK|TARGET|FREQUENCY|CONTRAST|ORIENTATION|CONDITION|TRIAL)$|\bEVENTS?$",
    ],
    "ECG": [_abbreviation("E[CK]G"), "^BIPOLAR 2$"],
    "EOG": [
        _abbreviation("EOG"),
        _begins("(LOC|ROC|LUC|RLC|LLC|RUC)X?"),
        rf"^[HV]EO|(?:^|[^A-Z])EYE|^E[12]({_SEPARATOR}*([AM][12]\d?|E[12]))?$|^(H[LR]|V[ABOU])$",
    ],
    "EMG": [_abbreviation("EMG"), r"CHIN|TIBIAL|^TIB\b|SUBMENT|DELTOID|(^|[^A-Z])[LR]?LEGS?(?![A-Z])|^[DS]X\d?(-|$)"],
    "RESP": [
        r"RESP|THORA?|TORAC|ABDO?M?\b|ABDOM|ADDOM|FLOW|FLUSSO|CHEST|THERMIST|TERMIST|CANN?ULA|NASAL|EFFORT",
        _begins(r"RIP THERM? NEW\s?AIR X?SUM"),
    ],
    "SpO2": ["S[AP][O0]2|O2 ?SAT|OSAT|ASO2"],
    "CO2": [r"^(ET|TC|PET)?[\s_]?CO2|^CAPNO"],
    "PPG": ["^(PLET|PPG)"],
    "HR": [_begins(r"PULSE D?H\.?R HRATE HEART\s?RATE PULSERATE BPM BATTITO")],
    "TEMP": ["^TEMP(?!OR)"],
    "GSR": ["^(GSR|EDA)$"],
    "PHOTIC": [_begins(r"PHO(TIC|TO\w*)?")],
    "MEG": [_begins("MEG")],
    "ACC": [r"^ACC[\W_]?[XYZ\d]?$"],
    "DC": [r"^DC ?\d+"],
    "REF": [_begins("(RE|V|C)?REF REFERENCE"), "^(E|GND|GROUND|CMS|DRL)$"],
    "VNS": ["^VNS$"],
    "AUX": [
        _begins(r"MIC AUDIO SOUND POS(ITION|IZIONE)? B?POS BODY(POS)? LIGHTS? CPAP [EI]PAP PTT STAT ELEMENTS GRAVITY"),
        _begins(r"COUNTER INTERPOLATED SYNC TIME(_?STAMPS?)? BATTERY\w* EXG\s?\d ERGO? GSR BIP(OLAR)? MOT ANA(LOG)?"),
        _begins("MISC CHPI HPI SYS SAMPLE PACKET OTHER HEADBANDON"),
        r"AUX|SNOR|LEAK|PRESS|^(ACCEL|DIGITAL|GYRO)",
    ],
}
_KINDS = {kind: re.compile("|".join(patterns)) for kind, patterns in _NON_EEG.items()}
_UNNAMED_INPUT = re.compile(r"^(EEG|EXG) ?CHANNEL ?\d+$")
# Labels that mean different places on different caps: banks and nets, equidistant caps ...
_SITE_LABEL = re.compile(r"^([A-H]0?([1-9]|[12]\d|3[0-2])|E\d{1,3}|[LR]{1,2}[A-E]?\d+|Z\d+)$")
# ... numbers of inputs, and the half rows of four layouts older than 10-10.
_AMBIGUOUS = re.compile(rf"^(\d{{1,3}}|EEG ?\d{{3}}|EEG(-\d+)?|({_ELECTRODE})(''?|\"|[AP])|P[FCO][\dZ]|IT\d|[BDEH]Z)$")
# In sleep laboratories F1 and F2 are Fp1 and Fp2: the chains F1-F3, F2-F4, and F1/A2 against an ear.
_FRONTAL_POLE = re.compile(r"^(F1-F3|F2-F4|F[12]/[AM][12])$")
# The Sleep Heart Health Study calls its two channels EEG and EEG(sec).
_SECOND_EEG = re.compile(r"^EEG ?(\(SEC\)|SEC|2)$")
# A letter and a number: an electrode, or the label of a cap (banks A to H, in some systems I) or of a depth electrode.
# The next two: certain contacts of depth electrodes, strips or grids (A'1, LAMY1, P01) and labels of caps (B4), and
# names that may be such beside them.
_LABEL = re.compile(r"^([A-Z])(\d{1,3})$")
_CONTACT = re.compile(r"^([A-Z]+'\d+|(?!EEG|CH)[A-Z]{3,}\d+|[A-Z]0\d|[ABDGH]\d{1,2})$")
_MAYBE_CONTACT = re.compile(r"^[A-Z]+'?\d+$")


@dataclass
class ChannelNames:
    """
    What the names of a recording mean.

    Args:
        meanings: for each channel an electrode or site, a pair, `"non-eeg:KIND"`, `"unknown"` or `"ambiguous"`.
        references: what each electrode was recorded against, as far as the names say: `"average"`, `"linked ears"`,
            `"linked mastoids"`, an electrode that all channels share, or else `"reference"`.
        notes: conclusions from the list as a whole, for the report.
    """

    meanings: list[str]
    references: list[str]
    notes: list[str]


def net_name(net: str) -> str:
    """
    The name of a net as MNE spells it (`"biosemi64"`, `"GSN-HydroCel-128"`); case and signs do not matter.

    Raises:
        ValueError: for a net that is not in the tables; names all that are.
    """
    for known in NETS:
        if re.sub(r"[\W_]", "", known).lower() == re.sub(r"[\W_]", "", str(net)).lower():
            return known
    raise ValueError(f"Unknown net {net!r}. Known: {', '.join(NETS)}.")


def resolve_channel(name: str, net: str | None = None) -> str:
    """
    What a recording's channel name means, by itself.

    Case, dots, blanks, look-alike letters, prefixes (`EEG `, `POL `, `EEG:`), the name of a common reference (`-REF`,
    `-LE`, `-RE`, `-A1A2`), old names (T3 T4 T5 T6, T3/T7), the sign between the electrodes of a pair, and the numbers
    that MNE gives to duplicates (`T8-P8-0`) do not matter. F1-F3, F2-F4 and F1/A2 are taken for Fp1-F3, Fp2-F4 and
    Fp1-A2: sleep laboratories spell them so, and nobody else records these pairs ([`read_channels`] checks the other
    names).

    Args:
        name: as the file has it.
        net: the cap whose labels the names are (A1, E22 ...): `"biosemi16"` to `"biosemi256"`, `"EGI_256"`,
            `"GSN-HydroCel-32"` to `"GSN-HydroCel-257"`.

    Returns:
        an electrode of the 10-05 system (`"C3"`), a site of a net (`"E22@GSNHydroCel128"`), a bipolar pair of two
        (`"Fp1-F7"`, first minus second), `"non-eeg:KIND"`, `"ambiguous"` (the name means different places on different
        caps) or `"unknown"`.

    Raises:
        ValueError: for an unknown net.
    """
    return _read(name, None if net is None else net_name(net))[0]


def resolve_channels(names: Sequence[str], types: Sequence[str] | None = None, net: str | None = None) -> list[str]:
    """What all names of a recording mean, see [`read_channels`]; answers as those of [`resolve_channel`]."""
    return read_channels(names, types, net).meanings


def read_channels(names: Sequence[str], types: Sequence[str] | None = None, net: str | None = None) -> ChannelNames:
    """
    What all names of a recording mean, each in the context of the others: a second electrode that all channels share
    is the reference; labels of caps and of depth electrodes (A1 A2 A3 ..., E1 E2 E3 ...) are not ear lobes or eyes;
    running numbers before the names (01-Fp1, 02-Fp2, 03-F3 ...) are no electrodes.

    Args:
        names: the recording's channels, as it spells them.
        types: their types, as MNE calls them; all others than `"eeg"` are not EEG, whatever their names. Default: all
            `"eeg"`.
        net: the cap whose labels the names are, as in [`resolve_channel`].

    Raises:
        ValueError: for an unknown net.
    """
    net = None if net is None else net_name(net)
    notes = []
    names = _without_numbers(names, notes)
    readings = [_read(name, net) for name in names]
    meanings = [meaning for meaning, _ in readings]
    references = [reference for _, reference in readings]
    for index, kind in enumerate(types or ()):
        if kind != "eeg":
            meanings[index] = f"non-eeg:{'TRIG' if kind == 'stim' else kind.upper()}"
    texts = [_normalise(name) for name in names]
    cores = [_PREFIX.sub("", text) for text in texts]
    if net is None:
        _doubt_labels(cores, meanings)
        _find_vertex(cores, meanings)
    _read_single_names(texts, cores, meanings)
    _read_two_channel_sleep(texts, meanings, notes)
    _read_frontal_pole(cores, meanings, notes)
    _find_common_reference(meanings, references, notes)
    _find_ears(texts, meanings, references, notes)
    return ChannelNames(meanings, references, notes)


def _without_numbers(names: Sequence[str], notes: list[str]) -> list[str]:
    """Names without the running numbers of their channels: 01-Fp1, 02-Fp2, 03-F3 are no pairs of O1 and O2."""
    numbered = [_NUMBERED.fullmatch(str(name)) for name in names]
    numbers = [int(match[1]) for match in numbered if match]
    if len(numbers) < 3 or numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1))):
        return list(names)
    notes.append("names: read without the running numbers before them")
    return [match[2] if match else name for match, name in zip(numbered, names, strict=True)]


def is_electrode(meaning: str) -> bool:
    """Whether an answer of [`resolve_channel`] is a single electrode or site of a net."""
    return meaning in POSITIONS or meaning in NET_POSITIONS


def is_pair(meaning: str) -> bool:
    """Whether an answer of [`resolve_channel`] is a pair of two electrodes."""
    first, separator, second = meaning.partition("-")
    return bool(separator) and first != second and is_electrode(first) and is_electrode(second)


def _normalise(name: str) -> str:
    """The name in upper-case letters, ASCII signs and single blanks, without invisible characters and quotes."""
    text = name.upper()
    for foreign, word in _OTHER_LANGUAGES.items():
        text = text.replace(foreign, word)
    text = unicodedata.normalize("NFKD", text.translate(_LOOK_ALIKES)).translate(_LOOK_ALIKES)
    text = "".join(_plain(character) for character in text)
    text = re.sub(r"\s+", " ", text).strip(" .")
    quoted = re.fullmatch(r"\"(.*)\"|'(.*)'|\((.*)\)|\[(.*)\]", text)
    text = _UNIT.sub("", next(filter(None, quoted.groups()), "") if quoted else text)
    for name, words in _IN_WORDS.items():
        text = words.sub(name, text)
    return _BLANK_INSIDE.sub(lambda match: match[0].replace(" ", ""), text)


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cf", "Mn"):  # zero width, byte-order marks, accents
        return ""
    if category == "Pd":
        return "-"
    if category == "Nd":
        return str(unicodedata.digit(character))
    return " " if category[0] == "Z" or category == "Cc" else character


def _read(name: str, net: str | None) -> tuple[str, str]:
    """Meaning and reference of one name."""
    if "@" in name and (name in NET_POSITIONS or is_pair(name)):
        return name, "reference"
    text = _normalise(name)
    core = _PREFIX.sub("", text).strip("()[] ")
    numbered = _DUPLICATE.match(core)
    attempts = [core, numbered[1].rstrip(" .")] if numbered else [core]
    referenced = _REFERENCED.match(attempts[-1])
    bare = referenced["rest"] if referenced else attempts[-1]
    if net is not None:
        for attempt in [*attempts, bare]:
            if site := _site(attempt, net) or _site_pair(attempt, net):
                return site, "reference"
    if _SECOND_EEG.match(text):
        return "C3-A2", "reference"
    labelled_eeg = text.startswith("EEG")
    for attempt in attempts + [core[3:]] * (labelled_eeg and core == text):
        if found := _channel(attempt, labelled_eeg):
            return found
    return _without_place(text, core, bare), "reference"


def _without_place(text: str, core: str, bare: str) -> str:
    """The answer for a name that is no electrode and no pair; `bare` is `core` without reference and number."""
    if _UNNAMED_INPUT.match(text):
        return "unknown"
    for kind, pattern in _KINDS.items():
        if pattern.search(core if kind in ("DUMMY", "REF") else bare) and not _AMBIGUOUS.match(text):
            return f"non-eeg:{kind}"
    if _AMBIGUOUS.match(text):
        return "ambiguous"
    # POL is Nihon Kohden's word for all that is not in its 10-20 set, depth electrodes among them: no cap's label.
    return "ambiguous" if _SITE_LABEL.match(bare) and not text.startswith("POL") else "unknown"


def _channel(text: str, labelled_eeg: bool) -> tuple[str, str] | None:
    """Electrode or pair, and reference; `None` where the text is neither."""
    if electrode := _electrode(text, padded=labelled_eeg):
        return electrode, "reference"
    if pair := _pair(text):
        return pair, "reference"
    for pattern in (_REFERENCED, _REFERENCED_WITHOUT_SEPARATOR):
        found = pattern.match(text)
        if found and (electrode := _electrode(found["rest"].rstrip("- "), padded=True)):
            return electrode, next(kind for kind in _REFERENCES if found[kind.replace(" ", "_")])
    return None


def _electrode(text: str, padded: bool = False) -> str | None:
    """
    An electrode; `padded` allows a zero before the number (FP01). Without a sign that the channel is on the scalp,
    such a name is the contact of a depth electrode (P01).
    """
    if text in CANONICAL:
        return CANONICAL[text]
    number = re.fullmatch(r"([A-Z]+)0(\d)", text)
    if number and (padded or number[1] == "FP"):
        return CANONICAL.get(number[1] + number[2])
    return CANONICAL.get(text.rstrip("-")) if text.endswith("-") else None


def _pair(text: str) -> str | None:
    """A pair, with a sign between the two or none at all; or an electrode under its old and its new name."""
    if _FRONTAL_POLE.match(text):
        text = text.replace("F1", "FP1").replace("F2", "FP2")
    twice = re.fullmatch(r"([A-Z]+\d) ?[/(=|] ?([A-Z]+\d)\)?", text)
    if twice and twice[1] != twice[2] and CANONICAL.get(twice[1]) == CANONICAL.get(twice[2]):
        return CANONICAL.get(twice[1])  # its old and its new name: T3/T7
    parts = [part.strip("()[] ") for part in re.split(rf"{_SEPARATOR}+(?:VS{_SEPARATOR}+)?", text)]
    if len(parts) == 1:
        # no name of the table is two others in a row, and no two can be cut in two ways
        cuts = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        parts = next((list(cut) for cut in cuts if cut[0] in CANONICAL and cut[1] in CANONICAL), [])
    if len(parts) != 2:
        return None
    # a zero for the letter O, and the digit of a switch after an ear (A22); A12 may be both ears as well
    names = [re.sub(r"^0(?=[12Z]$)", "O", re.sub(r"^(?![AM](?:12|21))([AM][12])\d$", r"\1", part)) for part in parts]
    first, second = (CANONICAL.get(name) for name in names)
    return f"{first}-{second}" if first and second and first != second else None


def _site(text: str, net: str) -> str | None:
    """The electrode or site of a label on a net; EGI's numbers also count without a letter (22, EEG 022)."""
    labels = NETS[net]
    label = re.fullmatch(r"(?:EEG ?)?([A-H]?)0*(\d{1,3})", text)
    if label:
        return labels.get(f"{label[1] or 'E'}{label[2]}") if label[1] or "biosemi" not in net else None
    return labels.get(text)


def _site_pair(text: str, net: str) -> str | None:
    parts = re.split(rf"{_SEPARATOR}+", text)
    if len(parts) != 2 or not all(re.match("[A-H]", part) for part in parts):
        return None
    first, second = (_site(part, net) or CANONICAL.get(part) for part in parts)
    return f"{first}-{second}" if first and second and first != second else None


def _doubt_labels(cores: list[str], meanings: list[str]) -> None:
    """
    Labels of a cap or of depth electrodes that are spelled like electrodes become `"ambiguous"`: letters whose numbers
    run from 1 past those of electrodes (A1 A2 A3, C1 to C16, E1 to E128), and all labels if no other name belongs to
    the scalp (Fz, Fp1, T7 ...).
    """
    labels: dict[str, dict[int, list[int]]] = {}
    for index, core in enumerate(cores):
        label = _LABEL.match(core)
        if label and (is_electrode(meanings[index]) or meanings[index] in ("non-eeg:EOG", "ambiguous", "unknown")):
            labels.setdefault(label[1], {}).setdefault(int(label[2]), []).append(index)
    banked, doubtful = set(), set()
    for letter, numbers in labels.items():
        indices = {index for same in numbers.values() for index in same}
        runs = len(numbers) >= 3 and sorted(numbers) == list(range(1, len(numbers) + 1))
        if runs or letter in "ABCDEFGHI":
            banked |= indices
        # T1 and T2 are not in the 10-05 system, but hospitals have them beside T3 to T6; E1 and E2 are also eyes
        past = any(f"{letter}{number}" not in {*CANONICAL, "E1", "E2", "T1", "T2"} for number in numbers)
        if runs and past and any(meanings[index] not in ("ambiguous", "unknown") for index in indices):
            doubtful |= indices
    scalp = any((is_electrode(m) or is_pair(m)) and index not in banked for index, m in enumerate(meanings))
    placeless = [index for index, meaning in enumerate(meanings) if meaning in ("unknown", "ambiguous")]
    if not scalp and sum(bool(_CONTACT.match(cores[index])) for index in placeless) >= 3:
        doubtful |= banked.union(index for index in placeless if _MAYBE_CONTACT.match(cores[index]))
    for index in doubtful:
        meanings[index] = "ambiguous"


def _find_vertex(cores: list[str], meanings: list[str]) -> None:
    """Beside a whole net of EGI, VREF and the number above the last site (E129 of 128) are the vertex, Cz."""
    numbers = {int(core[1:]) for core in cores if re.fullmatch(r"E\d{1,3}", core)}
    sites = next((n for n in (256, 128, 64, 32) if numbers >= set(range(1, n + 1))), None)
    for index, core in enumerate(cores):
        if sites and core in ("VREF", f"E{sites + 1}") and meanings[index] in ("ambiguous", "non-eeg:REF"):
            meanings[index] = "Cz"


def _read_single_names(texts: list[str], cores: list[str], meanings: list[str]) -> None:
    """
    Bare numbers beside names of electrodes are free inputs, not the numbers of a cap. O2 beside carbon dioxide,
    without O1, may be oxygen. HR is the right horizontal EOG beside HL, but the heart rate beside other channels of a
    sleep laboratory.
    """
    electrodes = any(is_electrode(meaning) or is_pair(meaning) for meaning in meanings)
    gases = "non-eeg:CO2" in meanings and "O1" not in meanings
    sleep = "HL" not in cores and bool({"non-eeg:SpO2", "non-eeg:PPG", "non-eeg:RESP"} & set(meanings))
    for index, (text, core) in enumerate(zip(texts, cores, strict=True)):
        if electrodes and text.isdigit() and meanings[index] == "ambiguous":
            meanings[index] = "unknown"
        elif gases and core == "O2" == meanings[index]:
            meanings[index] = "ambiguous"
        elif sleep and core == "HR":
            meanings[index] = "non-eeg:HR"


def _read_two_channel_sleep(texts: list[str], meanings: list[str], notes: list[str]) -> None:
    """EEG and EEG(sec), or EEG2, are C4-A1 and C3-A2 if there is no other numbered channel."""
    seconds = [index for index, text in enumerate(texts) if _SECOND_EEG.match(text) and meanings[index] == "C3-A2"]
    firsts = [index for index, text in enumerate(texts) if text == "EEG" and meanings[index] == "ambiguous"]
    others = [text for text in texts if re.match(r"EEG ?\d", text) and not _SECOND_EEG.match(text)]
    if len(seconds) == 1 == len(firsts) and not others:
        meanings[firsts[0]] = "C4-A1"
        notes.append("names: EEG and its second taken as C4-A1 and C3-A2, as in the Sleep Heart Health Study")
    else:
        for index in seconds:
            if "SEC" not in texts[index]:
                meanings[index] = "unknown"


def _read_frontal_pole(cores: list[str], meanings: list[str], notes: list[str]) -> None:
    """F1-F3, F2-F4 and F1/A2 mean Fp1 and Fp2 only if all other names are of the 10-20 system, without these."""
    indices = [index for index, core in enumerate(cores) if _FRONTAL_POLE.match(core) and is_pair(meanings[index])]
    named = {
        electrode
        for index, meaning in enumerate(meanings)
        if index not in indices and (is_electrode(meaning) or is_pair(meaning))
        for electrode in meaning.split("-")
    }
    for index in indices:
        if named <= _TEN_TWENTY_WITH_EARS - {"Fp1", "Fp2"}:
            notes.append(f"names: {cores[index]} taken as {meanings[index]}")
        else:
            meanings[index] = meanings[index].replace("Fp", "F")


def _find_ears(texts: list[str], meanings: list[str], references: list[str], notes: list[str]) -> None:
    """LE is linked ears and RE a reference, but in one recording they are the left and the right ear."""
    sides = {index: re.search(rf"{_SEPARATOR}([LR])E$", text) for index, text in enumerate(texts)}
    sides = {index: side[1] for index, side in sides.items() if side and is_electrode(meanings[index])}
    if set(sides.values()) == {"L", "R"}:
        for index, side in sides.items():
            references[index] = "A1" if side == "L" else "A2"
        notes.append("reference: LE and RE taken as the left and the right ear, A1 and A2")


def _find_common_reference(meanings: list[str], references: list[str], notes: list[str]) -> None:
    """A second electrode that all channels share is the reference."""
    channels = [index for index, meaning in enumerate(meanings) if is_electrode(meaning) or is_pair(meaning)]
    seconds = {meanings[index].partition("-")[2] for index in channels}
    if len({meanings[index] for index in channels}) < 3 or len(seconds) != 1 or not all(seconds):
        return
    (reference,) = seconds
    for index in channels:
        meanings[index], references[index] = meanings[index].partition("-")[0], reference
    notes.append(f"reference: {reference}, the second electrode of every channel")


__all__ = [
    "ALIASES",
    "CANONICAL",
    "ChannelNames",
    "is_electrode",
    "is_pair",
    "net_name",
    "read_channels",
    "resolve_channel",
    "resolve_channels",
]
