"""Which cluster is in force when."""

import pytest

from vxtool.model import Cluster, Moment, Timeline

SECOND = 1_000_000_000
A, B, C = (Cluster(data_path_port=port) for port in (1, 2, 3))
THREE = Timeline((Moment(A, 100 * SECOND), Moment(B, 200 * SECOND), Moment(C, 203 * SECOND)))


@pytest.mark.parametrize(("seconds", "cluster"), [(0, A), (100, A), (199.9, A), (200, B), (202.9, B), (203, C), (10**9, C)])
def test_a_snapshot_is_in_force_from_its_time_to_the_next(seconds: float, cluster: Cluster) -> None:
    assert THREE.at(int(seconds * SECOND)) is cluster


@pytest.mark.parametrize(("seconds", "acceptable"), [(50, [A]), (150, [A]), (201, [B, A]), (204, [C, B, A]), (206, [C, B]), (208, [C]), (300, [C])])
def test_while_a_change_settles_the_old_state_is_right_too(seconds: int, acceptable: list[Cluster]) -> None:
    found = THREE.acceptable(seconds * SECOND)
    assert [c.data_path_port for c in found] == [c.data_path_port for c in acceptable]
    assert THREE.settled(seconds * SECOND) == (len(acceptable) == 1)


def test_one_cluster_without_a_time_is_always_in_force() -> None:
    always = Timeline.of(A)
    assert always.at(-1) is A
    assert always.at(2**62) is A
    assert always.settled(0)
    assert always.changes_ns == ()


@pytest.mark.parametrize("moments", [(), (Moment(A, 2), Moment(B, 1)), (Moment(A, 1), Moment(B, 1)), (Moment(A, 1), Moment(B, None))])
def test_moments_without_order_are_refused(moments: tuple[Moment, ...]) -> None:
    with pytest.raises(ValueError, match="timeline"):
        Timeline(moments)
