"""Normalize short answers as EvalAI, LLaVA's `m4c_evaluator` and lmms-eval do, quirks included."""

import re


# The quirks are part of the rule: `(?!<=\d)` is a lookahead that always holds, `somebody'd` loses its apostrophe, and
# the original passes `re.UNICODE` (32) where `re.sub` expects a count.
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COMMA_BETWEEN_DIGITS = re.compile(r"(?<=\d)(\,)+(?=\d)")
_MAX_PERIODS = 32
_PUNCTUATION = (*';/[]"{}()=+\\_-><@`,?!',)
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
# What people write, what is meant: parted by commas.
_CONTRACTION_TABLE = """
aint ain't, arent aren't, cant can't, couldve could've, couldnt couldn't, couldn'tve couldn't've,
couldnt've couldn't've, didnt didn't, doesnt doesn't, dont don't, hadnt hadn't, hadnt've hadn't've,
hadn'tve hadn't've, hasnt hasn't, havent haven't, hed he'd, hed've he'd've, he'dve he'd've, hes he's, howd how'd,
howll how'll, hows how's, Id've I'd've, I'dve I'd've, Im I'm, Ive I've, isnt isn't, itd it'd, itd've it'd've,
it'dve it'd've, itll it'll, let's let's, maam ma'am, mightnt mightn't, mightnt've mightn't've,
mightn'tve mightn't've, mightve might've, mustnt mustn't, mustve must've, neednt needn't, notve not've,
oclock o'clock, oughtnt oughtn't, ow's'at 'ow's'at, 'ows'at 'ow's'at, 'ow'sat 'ow's'at, shant shan't,
shed've she'd've, she'dve she'd've, she's she's, shouldve should've, shouldnt shouldn't, shouldnt've shouldn't've,
shouldn'tve shouldn't've, somebody'd somebodyd, somebodyd've somebody'd've, somebody'dve somebody'd've,
somebodyll somebody'll, somebodys somebody's, someoned someone'd, someoned've someone'd've,
someone'dve someone'd've, someonell someone'll, someones someone's, somethingd something'd,
somethingd've something'd've, something'dve something'd've, somethingll something'll, thats that's, thered there'd,
thered've there'd've, there'dve there'd've, therere there're, theres there's, theyd they'd, theyd've they'd've,
they'dve they'd've, theyll they'll, theyre they're, theyve they've, twas 'twas, wasnt wasn't, wed've we'd've,
we'dve we'd've, weve we've, werent weren't, whatll what'll, whatre what're, whats what's, whatve what've,
whens when's, whered where'd, wheres where's, whereve where've, whod who'd, whod've who'd've, who'dve who'd've,
wholl who'll, whos who's, whove who've, whyll why'll, whyre why're, whys why's, wont won't, wouldve would've,
wouldnt wouldn't, wouldnt've wouldn't've, wouldn'tve wouldn't've, yall y'all, yall'll y'all'll, y'allll y'all'll,
yall'd've y'all'd've, y'alld've y'all'd've, y'all'dve y'all'd've, youd you'd, youd've you'd've, you'dve you'd've,
youll you'll, youre you're, youve you've
"""
_CONTRACTIONS = dict(pair.split() for pair in _CONTRACTION_TABLE.split(","))


def normalize_vqa_answer(text: str) -> str:
    """
    Apply all stages: words, punctuation, then digits, articles and contractions.

    Example:

        >>> normalize_vqa_answer("It's two o'clock, the end.")
        "it 's 2 o'clock end"
    """
    words = split_words(text).replace("\n", " ").replace("\t", " ").strip()
    return replace_words(remove_punctuation(words))


def normalize_vqa_answer_without_word_split(text: str) -> str:
    """What lmms-eval does to answers of VQAv2: commas and `'s` stay until the punctuation is removed."""
    words = text.replace("\n", " ").replace("\t", " ").strip()
    return replace_words(remove_punctuation(words))


def split_words(text: str) -> str:
    """Lower the case, drop commas and question marks, set `'s` apart."""
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def remove_punctuation(text: str) -> str:
    """Drop a mark that touches a space anywhere in the text, replace it by a space elsewhere; drop periods."""
    has_thousands = _COMMA_BETWEEN_DIGITS.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        touches_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if touches_space or has_thousands else " ")
    return _PERIOD.sub("", result, count=_MAX_PERIODS)


def replace_words(text: str) -> str:
    """Write number words as digits, drop articles, put the apostrophes of contractions back."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


__all__ = [
    "normalize_vqa_answer",
    "normalize_vqa_answer_without_word_split",
    "remove_punctuation",
    "replace_words",
    "split_words",
]
