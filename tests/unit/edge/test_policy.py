"""The policy of every method, as the contract states it."""

import math

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from bacmr.v1 import admin_pb2, auth_pb2, ingestion_pb2, quiz_pb2, retrieval_pb2, wallet_pb2
from server.caller import Role
from server.edge.policy import PROBE, Cost, EdgeError, Policy, policies

FILES = (auth_pb2, wallet_pb2, retrieval_pb2, quiz_pb2, ingestion_pb2, admin_pb2)
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]


def test_every_method_of_the_contract_states_its_policy():
    found = policies(SERVICES)
    assert set(found) == {f"/{s.full_name}/{m.name}" for s in SERVICES for m in s.methods}


def test_only_the_ways_in_are_public():
    public = {path.rpartition("/")[2] for path, policy in policies(SERVICES).items() if policy.public}
    assert public == {"SignUp", "SignIn", "RefreshSession", "GetJwks"}


def test_everything_of_admins_and_the_wallets_service_methods_are_internal_and_by_role():
    found = policies(SERVICES)
    internal = {path for path, policy in found.items() if policy.internal}
    assert internal == {path for path in found if "AdminService" in path} | {
        f"/bacmr.v1.WalletService/{name}" for name in ("Reserve", "Finalize", "Release")
    }
    for path in internal:
        assert found[path].roles <= {Role.ADMIN, Role.SERVICE}
        assert found[path].roles


def test_what_costs_tokens_and_what_can_be_guessed_is_marked():
    found = policies(SERVICES)
    paid = {path.rpartition("/")[2] for path, policy in found.items() if policy.cost is Cost.PAID}
    guessed = {path.rpartition("/")[2] for path, policy in found.items() if policy.cost is Cost.SIGN_IN}
    assert paid == {"Ask", "GenerateQuiz"}
    assert {"SignUp", "SignIn", "ChangePassword", "RedeemVoucher"} <= guessed


def test_a_method_without_a_policy_is_an_error_that_names_it():
    file = descriptor_pb2.FileDescriptorProto(name="forgotten.proto", package="test", syntax="proto3")
    file.message_type.add(name="Empty")
    file.service.add(name="Forgotten").method.add(name="Open", input_type=".test.Empty", output_type=".test.Empty")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    with pytest.raises(EdgeError, match=r"/test\.Forgotten/Open carries no option"):
        policies([pool.FindServiceByName("test.Forgotten")])


@pytest.mark.parametrize(("asked", "expected"), [(None, 30.0), (5.0, 5.0), (59.0, 59.0), (600.0, 60.0), (0.0, 0.0)])
def test_a_deadline_is_the_callers_within_the_methods_longest(asked, expected):
    assert Policy().deadline_seconds(asked) == expected


def test_probes_may_last():
    assert PROBE.deadline_seconds(None) == math.inf


def test_no_roles_named_means_every_signed_in_caller():
    assert Policy().allows(Role.STUDENT)
    assert Policy(roles=frozenset({Role.ADMIN})).allows(Role.ADMIN)
    assert not Policy(roles=frozenset({Role.ADMIN})).allows(Role.TEACHER)
