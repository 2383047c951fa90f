"""Accounts on the wire."""

from uuid import UUID

from bacmr.v1 import access_pb2, admin_pb2, admin_pb2_grpc
from server.admin.service import AdminService
from server.admin.servicer.messages import Context
from server.auth.directory import UserDirectory
from server.auth.servicer import user_message
from server.caller import Role, Tier

_ROLES = {access_pb2.Role.Value(f"ROLE_{role.name}"): role for role in Role if role is not Role.ANYONE}
_TIERS = {access_pb2.Tier.Value(f"TIER_{tier.name}"): tier for tier in Tier}


class PeopleServicing(admin_pb2_grpc.AdminServiceServicer):
    """Who may do what."""

    _service: AdminService
    _directory: UserDirectory

    async def CheckAccess(
        self, request: admin_pb2.CheckAccessRequest, context: Context
    ) -> admin_pb2.CheckAccessResponse:
        """Say who the caller is."""
        user_id, role, tier = self._service.who()
        return admin_pb2.CheckAccessResponse(
            user_id=str(user_id) if user_id else "",
            role=access_pb2.Role.Value(f"ROLE_{role.upper()}"),
            tier=access_pb2.Tier.Value(f"TIER_{tier.upper()}"),
        )

    async def ListUsers(self, request: admin_pb2.ListUsersRequest, context: Context) -> admin_pb2.ListUsersResponse:
        """List accounts."""
        page = await self._directory.list_users(
            _ROLES.get(request.role), request.query, request.page_size, request.page_token
        )
        return admin_pb2.ListUsersResponse(
            users=[user_message(user) for user in page.items], next_page_token=page.next_page_token
        )

    async def GetUser(self, request: admin_pb2.GetUserRequest, context: Context) -> admin_pb2.GetUserResponse:
        """Return an account."""
        return admin_pb2.GetUserResponse(user=user_message(await self._directory.get_user(UUID(request.user_id))))

    async def UpdateUserRole(
        self, request: admin_pb2.UpdateUserRoleRequest, context: Context
    ) -> admin_pb2.UpdateUserRoleResponse:
        """Change a role."""
        user = await self._directory.update_role(UUID(request.user_id), _ROLES[request.role], UUID(request.request_id))
        return admin_pb2.UpdateUserRoleResponse(user=user_message(user))

    async def UpdateUserTier(
        self, request: admin_pb2.UpdateUserTierRequest, context: Context
    ) -> admin_pb2.UpdateUserTierResponse:
        """Change a tier."""
        user = await self._directory.update_tier(UUID(request.user_id), _TIERS[request.tier], UUID(request.request_id))
        return admin_pb2.UpdateUserTierResponse(user=user_message(user))

    async def SetUserDisabled(
        self, request: admin_pb2.SetUserDisabledRequest, context: Context
    ) -> admin_pb2.SetUserDisabledResponse:
        """Disable or enable an account."""
        user = await self._directory.set_disabled(UUID(request.user_id), request.disabled, UUID(request.request_id))
        return admin_pb2.SetUserDisabledResponse(user=user_message(user))
