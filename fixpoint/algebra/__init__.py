"""Operators made of operators; `Operator` has the operations as methods.

`T * 2.0`, `T + S`, `T @ S`, `T.resolvent(step)` and the others are documented there, and what is
known of their constants in `fixpoint.calculus`. Here are the classes that they make, `product` and
`subdifferential`.
"""

from fixpoint.algebra._subdifferential import Subdifferential, subdifferential
from fixpoint.algebra.composed import Composition, Product, Succession, product
from fixpoint.algebra.inverse import Inverse
from fixpoint.algebra.linear import Combination, Dilated, Identity, Shifted, Sum, Translated
from fixpoint.algebra.resolvent import Resolvent

__all__ = [
    "Combination",
    "Composition",
    "Dilated",
    "Identity",
    "Inverse",
    "Product",
    "Resolvent",
    "Shifted",
    "Subdifferential",
    "Succession",
    "Sum",
    "Translated",
    "product",
    "subdifferential",
]
