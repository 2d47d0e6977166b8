"""Operators made of operators; `Operator` has the operations as methods.

`T * 2.0`, `T + S`, `T @ S`, `T.resolvent(step)` and the others are documented there, and what is
known of their constants in `fixpoint.calculus`. Here are the classes that they make, `product` and
`subdifferential`.
"""

from fixpoint._moved import renamed as _renamed
from fixpoint.algebra._subdifferential import Subdifferential, subdifferential
from fixpoint.algebra.composed import Composition, Product, Succession, product
from fixpoint.algebra.inverse import Inverse
from fixpoint.algebra.linear import (
    Combination,
    Dilated,
    IdentityOperator,
    Shifted,
    Sum,
    TranslatedOperator,
)
from fixpoint.algebra.resolvent import Resolvent

__all__ = [
    "Combination",
    "Composition",
    "Dilated",
    "IdentityOperator",
    "Inverse",
    "Product",
    "Resolvent",
    "Shifted",
    "Subdifferential",
    "Succession",
    "Sum",
    "TranslatedOperator",
    "product",
    "subdifferential",
]

__getattr__ = _renamed(
    __name__, {"Identity": "IdentityOperator", "Translated": "TranslatedOperator"}
)
