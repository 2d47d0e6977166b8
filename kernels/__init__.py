"""The updates of the iterators, one file each. Imports torch, and jaxtyping for shapes.

Every function here uses nothing but correctly rounded elementwise arithmetic and row sums of a
fixed order, so that on the CPU a row's result is the same, bit for bit, whichever rows share its
batch.
"""

from fixpoint.kernels.adam import adam
from fixpoint.kernels.anderson import anderson_mix, gram_row
from fixpoint.kernels.broyden import broyden_direction, broyden_products
from fixpoint.kernels.forward_step import forward_step
from fixpoint.kernels.inertial_km import inertial_km
from fixpoint.kernels.row_sums import accumulation_dtype, row_dot, row_norm

__all__ = [
    "accumulation_dtype",
    "adam",
    "anderson_mix",
    "broyden_direction",
    "broyden_products",
    "forward_step",
    "gram_row",
    "inertial_km",
    "row_dot",
    "row_norm",
]
