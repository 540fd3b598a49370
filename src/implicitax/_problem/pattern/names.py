"""Primitives by what they do to dependences, where a name is all that is to be said of them."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Every element is a function of the elements at its place.
ELEMENTWISE = _names(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg
    nextafter not or polygamma population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt
    select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square sub tan tanh xor
    zeta random_gamma_grad"""
)
# Reductions, and what runs along an axis or over windows.
REDUCTIONS = _names("reduce_sum reduce_prod reduce_max reduce_min reduce_and reduce_or reduce_xor argmax argmin reduce")
CUMULATIVE = _names("cumsum cumprod cummax cummin cumlogsumexp")
WINDOWS = _names("reduce_window reduce_window_sum reduce_window_max reduce_window_min select_and_gather_add")
LANES = _names("psum pmax pmin")  # the same along an axis of a `vmap` that has a name
SCATTERS = _names("scatter scatter-add scatter_add scatter-sub scatter-mul scatter_mul scatter_min scatter_max")
# Decompositions and the like: each matrix of a batch by itself, all of it.
MATRIX = _names("cholesky lu qr eigh eig svd schur hessenberg householder_product tridiagonal cholesky_update geqrf")
# What only hands its last operands on, one by one.
HANDS_ON = _names("optimization_barrier device_put implicitax_check")
# Known values that the primitive itself computes, which is then compiled: what has no short form in NumPy.
BY_XLA = _names("sort argmax argmin dot_general conv_general_dilated bcoo_fromdense bcoo_transpose bcoo_sort_indices")
# Inner functions, and the parameter that holds them.
CALLS = {
    **dict.fromkeys(("jit", "pjit", "remat", "remat2", "checkpoint", "xla_call"), "jaxpr"),
    **dict.fromkeys(("closed_call", "core_call", "call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
    "custom_vmap_call": "call",
    "linear_call": "callee",
}
