"""The affine certificate, the linear sub-network of a model, its weight matrix, and the analyses of that matrix."""

from surgery import namespace
from surgery.linear.agreement import Agreement as Agreement
from surgery.linear.agreement import agreement as agreement
from surgery.linear.certificate import AffineCertificate as AffineCertificate
from surgery.linear.certificate import Offender as Offender
from surgery.linear.certificate import certificate_of as certificate_of
from surgery.linear.certificate import certify as certify
from surgery.linear.certificate import offenders as offenders
from surgery.linear.correlation import Spectrum as Spectrum
from surgery.linear.correlation import correlate as correlate
from surgery.linear.correlation import spectrum as spectrum
from surgery.linear.equivalence import Comparison as Comparison
from surgery.linear.equivalence import compare as compare
from surgery.linear.extraction import LinearMap as LinearMap
from surgery.linear.extraction import extract as extract
from surgery.linear.extraction import local_map as local_map
from surgery.linear.features import ClassMeans as ClassMeans
from surgery.linear.features import feature_distance as feature_distance
from surgery.linear.features import features_at as features_at
from surgery.linear.features import penultimate as penultimate
from surgery.linear.linearization import CheckedRewrite as CheckedRewrite
from surgery.linear.linearization import Linearized as Linearized
from surgery.linear.linearization import apply_checked as apply_checked
from surgery.linear.linearization import linearize as linearize

__dir__ = namespace.public_names(__name__)
