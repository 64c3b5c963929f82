"""Data sets as eight-bit tensors: real ones, image folders, and a generated one whose hierarchy is known."""

from surgery.data.augmentation import Augmentation as Augmentation
from surgery.data.dataset import Dataset as Dataset
from surgery.data.planted import planted as planted
from surgery.data.sources import DATASETS as DATASETS
from surgery.data.sources import SOURCES as SOURCES
from surgery.data.sources import load as load
from surgery.data.split import Split as Split
from surgery.data.split import images_as_float as images_as_float
