# SPDX-License-Identifier: MIT
"""What is said of the mistakes that more than one exercise invites."""

BASE_FORGOTTEN = "the base is missing; the result is the model, which is the base plus the change"
EXPERT_DECOMPOSED = "the expert's weights are decomposed; it is their difference from the base that has low rank"
GRAM_SCHMIDT = (
    "this is what Gram-Schmidt (QR) gives, which keeps the first column and moves the others; "
    "the closest orthonormal matrix is P Qᵀ of the SVD"
)
MEAN_OF_MATRICES = "this is divided by the number of tasks; the method sums and does not average"
NO_SINGULAR_VALUES = "the singular values are missing between the singular vectors"
ONE_TOO_FEW = "one component is missing; the first k of them are `[:k]`, since indices start at zero"
ONE_TOO_MANY = "there is one component too many; the first k of them are `[:k]`, which leaves out the index k"
SQUARED = "the singular values are squared; those of the SVD are the right ones as they are"
SWAPPED_SIDES = "this is the transpose of the answer; look at which vector stands on the left"
TRANSPOSED_V = (
    "this is what V in the place of Vᵀ gives; torch.linalg.svd returns Vᵀ, so it is not to be transposed again"
)
UNTRUNCATED = "all components are kept; only the k leading ones are wanted"
