"""The store: one HDF5 file for a run, with one self-contained group for each stage. Only this package imports h5py."""

from surgery import namespace
from surgery.store.checking import CheckedGroup as CheckedGroup
from surgery.store.checking import check_store as check_store
from surgery.store.comparing import Comparison as Comparison
from surgery.store.comparing import compare as compare
from surgery.store.exporting import write_csv as write_csv
from surgery.store.exporting import write_npz as write_npz
from surgery.store.failures import StoreError as StoreError
from surgery.store.layout import SCHEMA as SCHEMA
from surgery.store.lock import folder_lock as folder_lock
from surgery.store.provenance import provenance as provenance
from surgery.store.reading import GroupSummary as GroupSummary
from surgery.store.reading import list_groups as list_groups
from surgery.store.reading import read_group as read_group
from surgery.store.reading import read_provenances as read_provenances
from surgery.store.tree import open_tree as open_tree
from surgery.store.values import Coordinate as Coordinate
from surgery.store.values import Group as Group
from surgery.store.values import Variable as Variable
from surgery.store.values import class_coordinates as class_coordinates
from surgery.store.writing import remove_groups as remove_groups
from surgery.store.writing import write_group as write_group
from surgery.store.writing import write_groups as write_groups

load = open_tree

__dir__ = namespace.public_names(__name__)
