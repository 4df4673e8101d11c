"""The parts of the dense evaluations against the papers: shapes, strides, what is tuned."""

from __future__ import annotations

import dataclasses
from typing import Any

import dense_fixtures as fixtures
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50, vgg11
from torchvision.ops import FrozenBatchNorm2d

from datasets.dense import Depths
from harness.evaluation import evaluations
from harness.evaluation.dense import average_precision, configs, depth, segmentation
from harness.evaluation.dense.average_precision import THRESHOLDS, Found, Truth
from harness.evaluation.dense.detectors import C4Heads, Shape, build
from harness.evaluation.dense.feed import Feed, each
from harness.evaluation.dense.stages import dilate, freeze, freeze_norms, stages
from harness.training.backbones import build_backbone


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's ResNet-50 with random weights and statistics that are not the initial ones."""
    torch.manual_seed(0)
    network = resnet50()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return network


def test_a_torchvision_resnet50_is_taken_apart(resnet: nn.Module) -> None:
    body = stages(resnet)
    assert body.channels == (256, 512, 1024, 2048) and body.strides == (4, 8, 16, 32)
    own = build_backbone("resnet50", stem="imagenet")
    state = {name: value for name, value in resnet.state_dict().items() if "fc." not in name}
    assert not own.load_state_dict(state, strict=False).unexpected_keys
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        c5 = stages(own).eval()(x)[-1]
        assert c5.shape == (1, 2048, 2, 3)
        assert torch.equal(own.eval()(x), c5.mean((2, 3)))  # the backbone's weights, all of them
        assert torch.equal(body.eval()(x)[-1], c5)


def test_other_backbones_fit_or_are_refused() -> None:
    assert stages(build_backbone("resnet18", stem="imagenet")).strides == (4, 8, 16, 32)
    assert stages(resnet18()).channels == (64, 128, 256, 512)
    tiny = fixtures.backbone(blocks=2)
    body = stages(tiny)
    assert (body.channels, body.strides) == ((12, 24, 48, 96), (2, 4, 8, 16))
    assert [len(stage) for stage in body.stages] == [2, 2, 2, 2]  # type: ignore[arg-type]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = body.eval()(x)[-1].mean((2, 3))
        assert torch.equal(tiny.eval()(x), pooled)
    with pytest.raises(ValueError, match="got VGG: choose backbone.name=resnet50, resnet18 or"):
        stages(vgg11(init_weights=False))
    with pytest.raises(ValueError, match="of 2 stages, got 1: raise backbone.stages"):
        stages(fixtures.backbone(stages=1))


def test_probing_and_heads_leave_the_backbone_alone() -> None:
    network = fixtures.backbone().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    freeze(stages(network), 5)
    segmentation.FCN(stages(network), 3)
    after = network.state_dict()
    assert network.training and all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_c4_is_mocos(resnet: nn.Module) -> None:
    model = build(stages(resnet), Shape("c4", 80, True)).eval()
    heads: Any = model.roi_heads
    assert isinstance(heads, C4Heads) and heads.stride == 16
    x = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        features = model.backbone(x)
        assert features["0"].shape == (1, 1024, 6, 8)
        regions = heads.regions(features, [torch.tensor([[0.0, 0.0, 60.0, 60.0]] * 3)])
        assert regions.shape == (3, 2048, 7, 7)
        assert heads.mask_predictor(regions).shape == (3, 81, 14, 14)
    assert isinstance(heads.res5[1], nn.BatchNorm2d) and heads.res5[1].num_features == 2048
    assert model.rpn.anchor_generator.sizes == ((32, 64, 128, 256, 512),)
    assert model.rpn.anchor_generator.aspect_ratios == ((0.5, 1.0, 2.0),)
    assert model.rpn._pre_nms_top_n == {"training": 12000, "testing": 6000}
    assert model.rpn._post_nms_top_n == {"training": 2000, "testing": 1000}
    assert heads.fg_bg_sampler.batch_size_per_image == 512
    assert heads.box_predictor.cls_score.out_features == 81
    # "all layers are fine-tuned", their BatchNorm too
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())


def test_fpn_has_a_level_for_each_stride_of_4_to_64(resnet: nn.Module) -> None:
    model = build(stages(resnet), Shape("fpn", 80, True)).eval()
    with torch.no_grad():
        levels = model.backbone(torch.randn(1, 3, 128, 192))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [128 // level.shape[2] for level in levels.values()] == [4, 8, 16, 32, 64]
    assert {level.shape[1] for level in levels.values()} == {256}
    assert model.rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.fpn.modules())


def test_frozen_parts_have_no_gradient_and_keep_their_statistics(resnet: nn.Module) -> None:
    for count, fixed in ((1, {"stem"}), (2, {"stem", "0"}), (3, {"stem", "0", "1"})):
        body = stages(resnet)
        freeze(body, count)
        parts = {"stem": body.stem, **{str(i): stage for i, stage in enumerate(body.stages)}}
        assert {name for name, part in parts.items()
                if not any(p.requires_grad for p in part.parameters())} == fixed
        assert {name for name, part in parts.items()
                if any(isinstance(m, FrozenBatchNorm2d) for m in part.modules())} == fixed
    body, x = stages(resnet).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = body(x)[-1]
        freeze_norms(body)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in body.modules())
        assert torch.allclose(body.train()(x)[-1], expected, rtol=1e-4, atol=1e-2)
    model = build(stages(resnet), Shape("c4", 20, False, norm="frozen"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_the_fcn_is_mocos(resnet: nn.Module) -> None:
    body = stages(resnet)
    model = segmentation.FCN(body, 21).eval()
    with torch.no_grad():
        assert body(torch.randn(1, 3, 65, 97))[-1].shape == (1, 2048, 5, 7)  # total stride 16
        assert model(torch.randn(1, 3, 65, 97)).shape == (1, 21, 65, 97)
    wide = [m for m in body.stages[-1].modules() if isinstance(m, nn.Conv2d)
            and m.kernel_size == (3, 3)]
    assert len(wide) == 3 and {m.dilation for m in wide} == {(2, 2)}
    assert all(m.stride == (1, 1) for m in body.stages[-1].modules() if isinstance(m, nn.Conv2d))
    head = [m for m in model.head if isinstance(m, nn.Conv2d)]
    assert [(m.kernel_size, m.dilation, m.out_channels) for m in head] == [
        ((3, 3), (6, 6), 256), ((3, 3), (6, 6), 256), ((1, 1), (1, 1), 21)]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.head) == 2
    assert body.strides == (4, 8, 16, 32)
    plain, dilated = stages(resnet), stages(resnet)
    dilate(dilated.stages[-1])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), dilated.parameters(),
                                                 strict=True))


def test_the_depth_decoder_is_lainas(resnet: nn.Module) -> None:
    model = depth.DepthNet(stages(resnet), (512, 256, 128, 64)).eval()
    with torch.no_grad():
        assert model.body(torch.randn(1, 3, 228, 304))[-1].shape == (1, 2048, 8, 10)
        assert model.ups(torch.zeros(1, 2048, 8, 10)).shape == (1, 64, 128, 160)
        assert depth.DepthNet(stages(fixtures.backbone()), (8, 8))(
            torch.randn(2, 3, 60, 84)).shape == (2, 60, 84)


def test_an_up_projection_is_unpooling_and_a_convolution() -> None:
    torch.manual_seed(0)
    conv = depth._unpool(3, 4)
    x = torch.randn(2, 3, 5, 6)
    pooled = torch.zeros(2, 3, 10, 12)
    pooled[:, :, ::2, ::2] = x
    expected = nn.functional.conv2d(pooled, conv.weight.transpose(0, 1).flip(2, 3), padding=2)
    assert torch.allclose(conv(x), expected, atol=1e-5)
    assert depth.UpProjection(3, 4)(x).shape == (2, 4, 10, 12)


def test_the_reverse_huber_loss_is_linear_then_square() -> None:
    true = torch.tensor([[[1.0, 1.0, 0.0, 2.0]]])
    predicted = torch.tensor([[[1.1, 2.0, 9.0, 1.5]]], requires_grad=True)
    loss = depth.berhu(predicted, true)  # |d| = .1, 1, -, .5; c = .2
    assert loss.item() == pytest.approx((0.1 + (1 + 0.04) / 0.4 + (0.25 + 0.04) / 0.4) / 3)
    loss.backward()
    assert predicted.grad is not None and predicted.grad[0, 0, 2] == 0
    assert depth.berhu(predicted, torch.zeros_like(true)).item() == 0.0


def test_depth_metrics_by_hand() -> None:
    metres = np.array([[2.0, 2.0, 0.0, 4.0]], np.float32)
    predicted = np.array([[2.4, 4.0, 7.0, -1.0]], np.float32)
    known, d1, d2, d3, square, rel = depth.errors(predicted, metres)
    assert (known, d1, d2, d3) == (3, 1, 1, 1)
    assert square == pytest.approx(0.16 + 4 + (4 - 1e-3)**2)
    assert rel == pytest.approx(0.2 + 1 + (4 - 1e-3) / 4, rel=1e-6)
    frame = Depths(np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.float32))
    image, cut = depth.framed(frame, configs.DepthByol())
    assert image.shape == (228, 304, 3) and cut.shape == (228, 304)
    with pytest.raises(ValueError, match="has no crop of 228 x 304"):
        depth.framed(Depths(image, cut), configs.DepthByol())


def test_intersection_over_union_leaves_absent_classes_out() -> None:
    table = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    iou = segmentation.class_iou(table)
    assert iou[:2] == pytest.approx([3 / 4, 4 / 5]) and np.isnan(iou[2])


BOX = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], np.float32)


def found(boxes: Any, scores: Any, labels: Any) -> Found:
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32),
                 np.array(labels, np.int64))


def truth(labels: list[int], ignored: list[bool] | None = None) -> Truth:
    flags = np.array(ignored or [False] * len(labels), bool)
    return Truth(BOX[:len(labels)], np.array(labels, np.int64), flags)


def test_voc_average_precision_by_hand() -> None:
    # hit, miss, hit of two objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    one = found([BOX[0], BOX[2], BOX[1]], [0.9, 0.8, 0.7], [1, 1, 1])
    assert average_precision.voc([truth([1, 1])], [one], 2, "area")["ap50"] == pytest.approx(5 / 6)
    assert average_precision.voc([truth([1, 1])], [one], 2)["ap50"] == pytest.approx(
        (6 + 5 * 2 / 3) / 11)
    # the second detection of one object is wrong, one of a difficult object does not count
    twice = found([BOX[0], BOX[0], BOX[1]], [0.9, 0.95, 0.8], [1, 1, 1])
    difficult = truth([1, 1], [False, True])
    assert average_precision.voc_class([difficult], [twice], 1, 0.5, "area") == 1.0
    assert average_precision.voc_class([truth([1, 1])], [twice], 1, 0.5, "area") == pytest.approx(
        (1 + 2 / 3) / 2)
    nothing = found([], [], [])
    assert average_precision.voc([truth([1, 2])], [nothing], 2)["ap"] == 0.0
    perfect = found(BOX, [1, 1, 1], [1, 2, 2])
    assert average_precision.voc([truth([1, 2, 2])], [perfect], 2) == {
        "ap": 1.0, "ap50": 1.0, "ap75": 1.0}
    # an overlap of 0.8 counts up to .8 and not beyond
    close = found([[0, 0, 10, 8]], [1], [1])
    values = [average_precision.voc_class([truth([1])], [close], 1, t, "area") for t in THRESHOLDS]
    assert values == [1.0] * 7 + [0.0] * 3
    with pytest.raises(ValueError, match="no object to be found"):
        average_precision.voc([truth([])], [nothing], 2)
    with pytest.raises(ValueError, match="unknown rule '12point'"):
        average_precision.voc([truth([1])], [close], 1, "12point")


def test_published_settings() -> None:
    voc, coco, dnc = configs.Detection(), configs.Coco(), configs.CocoDnc()
    assert [voc.lr_at(step) for step in (100, 17999, 18000, 21999, 22000)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002])
    assert voc.lr_at(0) == pytest.approx(2e-5) and voc.lr_at(50) == pytest.approx(0.01001)
    assert [coco.lr_at(step) for step in (119999, 120000, 160000)] == pytest.approx(
        [0.02, 0.002, 0.0002])
    assert [dnc.lr_at(step) for step in (500, 15000, 20000)] == pytest.approx([0.3, 0.15, 0.075])
    assert (dnc.batch_size, dnc.architecture, dnc.masks, dnc.source) == (64, "fpn", True, "coco")
    assert not voc.masks and coco.masks and configs.CocoFasterFpn1x().source == "coco"
    fcn = configs.SegmentationMoco()
    assert [fcn.lr_at(step) for step in (0, 21000, 27000)] == pytest.approx([3e-3, 3e-4, 3e-5])
    assert (fcn.crop, fcn.iterations, fcn.weight_decay) == (513, 30000, 1e-4)
    nyu = configs.DepthByol()
    assert (nyu.iterations, nyu.batch_size, nyu.lr, nyu.weight_decay) == (7500, 256, 0.16, 5e-4)
    assert nyu.lr_at(7499) == nyu.lr


def test_every_dense_evaluation_states_a_source_for_what_it_sets() -> None:
    dense = {name: e for name, e in evaluations().items() if hasattr(e.config, "source")}
    assert len(dense) == 10 and {e.takes for e in dense.values()} == {"encoder"}
    for evaluation in dense.values():
        options = evaluation.options
        assert all(options[name].source for name in ("iterations", "batch_size", "lr"))
        assert evaluation.configure({}) == evaluation.config()


def test_batches_are_a_function_of_the_seed_and_the_step() -> None:
    def make(number: int, generator: np.random.Generator) -> tuple[int, float]:
        return number, float(generator.random())

    def batches(threads: int, start: int) -> list[list[tuple[int, float]]]:
        with Feed(make, 10, 4, 6, seed=1, threads=threads) as feed:
            return [feed.take(step) for step in range(start, 6)]

    whole = batches(1, 0)
    assert whole == batches(4, 0) and whole[3:] == batches(2, 3)
    numbers = [number for batch in whole for number, _ in batch]
    assert sorted(numbers[:10]) == sorted(numbers[10:20]) == list(range(10))
    assert numbers[:10] != numbers[10:20]
    assert len({draw for batch in whole for _, draw in batch}) == 24
    with pytest.raises(ValueError, match="no image"):
        Feed(make, 0, 4, 6, seed=1, threads=1)
    assert list(each(lambda i: i * i, 20, 2)) == [i * i for i in range(20)]


def test_a_batch_without_a_known_pixel_or_an_object_has_a_finite_loss() -> None:
    model = segmentation.FCN(stages(fixtures.backbone()), 3).train()
    nowhere = [(torch.zeros(3, 64, 64, dtype=torch.uint8), torch.full((64, 64), 255))] * 2
    assert float(segmentation._losses(model, "cpu", nowhere)["loss"].detach()) == 0.0
    for architecture in ("c4", "fpn"):
        shape = Shape(architecture, 2, True, regions=8, proposals=16)
        detector = build(stages(fixtures.backbone(stem_stride=4)), shape).train()
        target: dict[str, Tensor] = {
            "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros(0, 64, 64, dtype=torch.uint8)}
        losses = detector([torch.rand(3, 64, 64)] * 2, [target] * 2)
        assert "loss_mask" in losses and all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()


def test_a_variant_keeps_what_it_does_not_set() -> None:
    base = {f.name: f for f in dataclasses.fields(configs.Detection)}
    made = {f.name: f for f in dataclasses.fields(configs.CocoC41x)}
    assert list(base) == list(made) and made["iterations"].default == 90000
    assert made["lr"].metadata["source"] == base["lr"].metadata["source"]
