"""The affine certificate, and the linear sub-network of a model."""

from surgery.linear.certificate import AffineCertificate as AffineCertificate
from surgery.linear.certificate import Offender as Offender
from surgery.linear.certificate import certify as certify
from surgery.linear.certificate import offenders as offenders
from surgery.linear.linearize import Linearized as Linearized
from surgery.linear.linearize import linearize as linearize
from surgery.linear.promise import Comparison as Comparison
from surgery.linear.promise import compare as compare
