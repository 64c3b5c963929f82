"""From the correlation matrix C to superclasses, the scores of a hierarchy, and hierarchies that are known."""

from surgery import namespace
from surgery.hierarchy.clustering import METHODS as METHODS
from surgery.hierarchy.clustering import Method as Method
from surgery.hierarchy.clustering import cluster as cluster
from surgery.hierarchy.files import load_hierarchy as load_hierarchy
from surgery.hierarchy.hierarchy import Hierarchy as Hierarchy
from surgery.hierarchy.named import NAMED as NAMED
from surgery.hierarchy.named import named as named
from surgery.hierarchy.partitions import adjusted_mutual_information as adjusted_mutual_information
from surgery.hierarchy.partitions import adjusted_rand_index as adjusted_rand_index
from surgery.hierarchy.scores import Scores as Scores
from surgery.hierarchy.scores import block_contrast as block_contrast
from surgery.hierarchy.wordnet import from_wordnet as from_wordnet

__dir__ = namespace.public_names(__name__)
