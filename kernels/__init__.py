"""The updates of the iterators, one file each: a plain-torch reference and a Triton kernel.

Files with an underscore are updates; the others serve them all. Imports torch, triton where it is
installed, and jaxtyping for shapes. Updates are operators of torch's dispatcher: CUDA tensors go to
the Triton kernel, all others to the reference. Every function consists of correctly rounded
elementwise arithmetic and of row sums in a fixed order. The result of a row is therefore the same,
bit for bit, whichever rows share its batch.
"""

from fixpoint.kernels._adam import adam, adam_with_sums
from fixpoint.kernels._anderson import GramRow, MixSums, anderson_mix, gram_row
from fixpoint.kernels._broyden import broyden_direction, broyden_products
from fixpoint.kernels._forward_step import forward_step, forward_step_with_sums
from fixpoint.kernels._halpern import halpern
from fixpoint.kernels._inertial_km import inertial_km, inertial_km_with_sums
from fixpoint.kernels._row_sums import PairSums, RowSums, row_dot, row_norm, row_sums
from fixpoint.kernels.dispatch import interpreted
from fixpoint.kernels.summation import accumulation_dtype, summation_dtype

__all__ = [
    "GramRow",
    "MixSums",
    "PairSums",
    "RowSums",
    "accumulation_dtype",
    "adam",
    "adam_with_sums",
    "anderson_mix",
    "broyden_direction",
    "broyden_products",
    "forward_step",
    "forward_step_with_sums",
    "gram_row",
    "halpern",
    "inertial_km",
    "inertial_km_with_sums",
    "interpreted",
    "row_dot",
    "row_norm",
    "row_sums",
    "summation_dtype",
]
