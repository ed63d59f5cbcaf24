import pytest
import torch

from foveal.losses.without_negatives import cosine


def test_equals_the_squared_distance_of_unit_vectors():
    """Equation 2 of Grill et al. 2020; SimSiam's -cos is half of it less 1."""
    q, z = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    slow = sum(((a / a.norm() - b / b.norm()) ** 2).sum() for a, b in zip(q, z, strict=True)) / 7
    negative_cosine = -sum(a @ b / (a.norm() * b.norm()) for a, b in zip(q, z, strict=True)) / 7
    assert cosine(q, z).item() == pytest.approx(slow.item(), rel=1e-12)
    assert cosine(q, z).item() / 2 - 1 == pytest.approx(negative_cosine.item(), rel=1e-12)


def test_equal_orthogonal_and_opposite_vectors():
    z = torch.eye(4)
    assert [cosine(z, 3 * z).item(), cosine(z, z.flip(0)).item(), cosine(z, -z).item()] == [0, 2, 4]
