"""Put our model classes under transformers' own tests of image-text models; runs inside the fetched suite."""

import unittest
from typing import Any

import torch
from parameterized import parameterized
from tests.test_modeling_common import floats_tensor
from tests.vlm_tester import VLMModelTest, VLMModelTester
from transformers import CLIPVisionConfig, LlamaConfig

from transformers_llava import OpenLlavaConfig, OpenLlavaForConditionalGeneration, OpenLlavaModel


class OpenLlavaTester(VLMModelTester):
    base_model_class = OpenLlavaModel
    config_class = OpenLlavaConfig
    conditional_generation_class = OpenLlavaForConditionalGeneration
    text_config_class = LlamaConfig
    vision_config_class = CLIPVisionConfig

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        kwargs.setdefault("image_token_index", kwargs.get("image_token_id", 3))
        kwargs.setdefault("vision_feature_layer", -2)
        super().__init__(parent, **kwargs)


class TiledTester(OpenLlavaTester):
    """One canvas of one tile: the whole view, and the tile closed row by row by the newline vector."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        side = kwargs.get("image_size", 8) // kwargs.get("patch_size", 4)
        kwargs.setdefault("num_image_tokens", side * side + side * (side + 1))
        kwargs.setdefault("image_aspect_ratio", "anyres")
        kwargs.setdefault("patch_merge_type", "spatial_unpad")
        kwargs.setdefault("image_grid_pinpoints", [[kwargs.get("image_size", 8)] * 2])
        super().__init__(parent, **kwargs)

    def create_pixel_values(self) -> torch.Tensor:
        return floats_tensor([self.batch_size, 2, self.num_channels, self.image_size, self.image_size])

    def get_additional_inputs(self, config: Any, input_ids: Any, modality_inputs: Any) -> dict[str, torch.Tensor]:
        return {"image_sizes": torch.tensor([[self.image_size, self.image_size]] * self.batch_size)}


class _CutTower:
    """Hooks of the suite: our tower ends at the layer that is read, here -2, one layer before the last."""

    model_tester: Any

    def _image_features_get_expected_num_attentions(self, model_tester: Any = None) -> int:
        return self.model_tester.num_hidden_layers - 1

    def _image_features_get_expected_num_hidden_states(self, model_tester: Any = None) -> int:
        return self.model_tester.num_hidden_layers

    @unittest.skip("Three checkpoint layouts map onto one, and checkpoints are saved under the model's own names.")
    def test_reverse_loading_mapping(self) -> None:
        pass


class OpenLlavaModelTest(_CutTower, VLMModelTest, unittest.TestCase):
    model_tester_class = OpenLlavaTester

    @parameterized.expand([(-1,), (-2,), ([-1, -2],)])
    def test_vision_feature_layers(self, layer: Any) -> None:
        """The built-in llava's own test of its own class."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        config.vision_feature_layer = layer
        for model_class in self.all_model_classes:
            model_class(config)(**inputs)


class OpenLlavaTiledModelTest(_CutTower, VLMModelTest, unittest.TestCase):
    model_tester_class = TiledTester
    skip_test_image_features_output_shape = True  # as for llava_next: `last_hidden_state` has a row for each tile
