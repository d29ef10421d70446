"""The single checks of a publication, in the order in which `verify` makes them."""

from transformers_llava.hub.content_checks import check_files, check_signature
from transformers_llava.hub.part_checks import check_parts
from transformers_llava.hub.recipe_checks import check_recomputed
from transformers_llava.hub.retrained_checks import check_retrained
from transformers_llava.hub.weight_checks import check_weights


__all__ = ["check_files", "check_parts", "check_recomputed", "check_retrained", "check_signature", "check_weights"]
