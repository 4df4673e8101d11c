"""CIFAR-10 and CIFAR-100 through torchvision."""

from __future__ import annotations

from dataclasses import dataclass

from datasets.sources.base import register
from datasets.sources.cifar_coarse import COARSE_OF
from datasets.sources.torchvision_base import Torchvision


@register("cifar10")
@dataclass(frozen=True)
class CIFAR10(Torchvision):
    """CIFAR-10."""

    title = "CIFAR-10"
    licence = "none stated by its authors; research use with citation"
    citation = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    layout = "data.path/cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}"
    size = "50,000 + 10,000 of 32x32 colour, 10 classes, 170 MB"
    native_side = 32
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
               "truck")
    files = tuple(f"cifar-10-batches-py/{name}" for name in (
        "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
        "test_batch", "batches.meta"))
    archives = ("c58f30108f718f92721af3b95e74349a",)
    declared = {"train": (5000,), "test": (1000,)}


@register("cifar100")
@dataclass(frozen=True)
class CIFAR100(Torchvision):
    """CIFAR-100, fine labels."""

    title = "CIFAR-100"
    licence = CIFAR10.licence
    citation = CIFAR10.citation
    layout = "data.path/cifar-100-python/{train,test,meta}"
    size = "50,000 + 10,000 of 32x32 colour, 100 classes, 169 MB"
    native_side = 32
    classes = tuple((
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
        "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
        "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
        "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
        "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper "
        "table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
        "willow_tree wolf woman worm").split())
    files = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")
    archives = ("eb9058c3a382ffc7106e4002c42a8d85",)
    declared = {"train": (500,), "test": (100,)}

    def coarse_names(self) -> tuple[str, ...]:
        """The superclass of each class."""
        return tuple(COARSE_OF[name] for name in self.classes)
