"""AuthService on the wire: read the request, ask the service, write the response."""

from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.v1 import access_pb2, auth_pb2, auth_pb2_grpc, language_pb2
from server.auth.account import Device, Profile, User
from server.auth.service import AuthService
from server.auth.sessions import SignedIn
from server.caller import Role, Tier
from server.refusal import Invalid, Violation
from server.text.language import Language

LANGUAGES = {
    language_pb2.LANGUAGE_UNSPECIFIED: None,
    language_pb2.LANGUAGE_FRENCH: Language.FRENCH,
    language_pb2.LANGUAGE_ARABIC: Language.ARABIC,
    language_pb2.LANGUAGE_HASSANIYA: Language.HASSANIYA,
    language_pb2.LANGUAGE_OTHER: Language.OTHER,
}
LANGUAGE_NUMBERS = {language: number for number, language in LANGUAGES.items()}
ROLE_NUMBERS = {
    Role.STUDENT: access_pb2.ROLE_STUDENT,
    Role.TEACHER: access_pb2.ROLE_TEACHER,
    Role.ADMIN: access_pb2.ROLE_ADMIN,
    Role.SERVICE: access_pb2.ROLE_SERVICE,
}
TIER_NUMBERS = {
    Tier.FREE: access_pb2.TIER_FREE,
    Tier.STANDARD: access_pb2.TIER_STANDARD,
    Tier.PREMIUM: access_pb2.TIER_PREMIUM,
}


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """Translates between `bacmr.v1.AuthService` and `server.auth.service`."""

    def __init__(self, service: AuthService) -> None:
        """Answer from `service`."""
        self._service = service

    async def SignUp(self, request: auth_pb2.SignUpRequest, context: Any) -> auth_pb2.SignUpResponse:
        """Make an account and sign it in."""
        signed_in = await self._service.sign_up(
            request.email,
            request.phone,
            request.password,
            Profile(request.display_name, _language(request.preferred_language, "preferred_language")),
            request.device_name,
            _request_id(request),
        )
        return auth_pb2.SignUpResponse(session=session_message(signed_in))

    async def SignIn(self, request: auth_pb2.SignInRequest, context: Any) -> auth_pb2.SignInResponse:
        """Check a password and open a session."""
        signed_in = await self._service.sign_in(request.email, request.phone, request.password, request.device_name)
        return auth_pb2.SignInResponse(session=session_message(signed_in))

    async def RefreshSession(
        self, request: auth_pb2.RefreshSessionRequest, context: Any
    ) -> auth_pb2.RefreshSessionResponse:
        """Trade a refresh token for a new pair."""
        return auth_pb2.RefreshSessionResponse(
            session=session_message(await self._service.refresh(request.refresh_token))
        )

    async def SignOut(self, request: auth_pb2.SignOutRequest, context: Any) -> auth_pb2.SignOutResponse:
        """End the session of this call."""
        await self._service.sign_out(_request_id(request))
        return auth_pb2.SignOutResponse()

    async def ListSessions(self, request: auth_pb2.ListSessionsRequest, context: Any) -> auth_pb2.ListSessionsResponse:
        """List the caller's devices."""
        page = await self._service.list_sessions(request.page_size, request.page_token)
        return auth_pb2.ListSessionsResponse(
            devices=[device_message(device) for device in page.items], next_page_token=page.next_page_token
        )

    async def RevokeSession(
        self, request: auth_pb2.RevokeSessionRequest, context: Any
    ) -> auth_pb2.RevokeSessionResponse:
        """End one of the caller's sessions."""
        await self._service.revoke_session(UUID(request.session_id), _request_id(request))
        return auth_pb2.RevokeSessionResponse()

    async def GetMe(self, request: auth_pb2.GetMeRequest, context: Any) -> auth_pb2.GetMeResponse:
        """Return the caller's account."""
        return auth_pb2.GetMeResponse(user=user_message(await self._service.get_me()))

    async def UpdateMe(self, request: auth_pb2.UpdateMeRequest, context: Any) -> auth_pb2.UpdateMeResponse:
        """Change the caller's profile."""
        language = _language(request.user.preferred_language, "user.preferred_language")
        change = Profile(request.user.display_name, language)
        user = await self._service.update_me(change, tuple(request.update_mask.paths), _request_id(request))
        return auth_pb2.UpdateMeResponse(user=user_message(user))

    async def ChangePassword(
        self, request: auth_pb2.ChangePasswordRequest, context: Any
    ) -> auth_pb2.ChangePasswordResponse:
        """Replace the caller's password."""
        await self._service.change_password(request.current_password, request.new_password, _request_id(request))
        return auth_pb2.ChangePasswordResponse()

    async def DeleteMe(self, request: auth_pb2.DeleteMeRequest, context: Any) -> auth_pb2.DeleteMeResponse:
        """Erase the caller."""
        await self._service.delete_me(request.password, _request_id(request))
        return auth_pb2.DeleteMeResponse()

    async def GetJwks(self, request: auth_pb2.GetJwksRequest, context: Any) -> auth_pb2.GetJwksResponse:
        """Return our public keys."""
        return auth_pb2.GetJwksResponse(keys=[auth_pb2.Jwk(**key) for key in self._service.jwks()])


def session_message(signed_in: SignedIn) -> auth_pb2.Session:
    """Write a pair of tokens."""
    expires_at = Timestamp()
    expires_at.FromDatetime(signed_in.expires_at)
    return auth_pb2.Session(
        access_token=signed_in.access_token,
        refresh_token=signed_in.refresh_token,
        expires_at=expires_at,
        user=user_message(signed_in.user),
        session_id=str(signed_in.session_id),
    )


def user_message(user: User) -> auth_pb2.User:
    """Write an account."""
    created_at = Timestamp()
    created_at.FromDatetime(user.created_at)
    return auth_pb2.User(
        id=str(user.id),
        email=user.email,
        phone=user.phone,
        display_name=user.display_name,
        role=ROLE_NUMBERS[user.role],
        tier=TIER_NUMBERS[user.tier],
        preferred_language=LANGUAGE_NUMBERS[user.preferred_language],
        disabled=user.disabled,
        created_at=created_at,
    )


def device_message(device: Device) -> auth_pb2.Device:
    """Write a device."""
    created_at, last_used_at = Timestamp(), Timestamp()
    created_at.FromDatetime(device.created_at)
    last_used_at.FromDatetime(device.last_used_at)
    return auth_pb2.Device(
        session_id=str(device.session_id),
        device_name=device.device_name,
        created_at=created_at,
        last_used_at=last_used_at,
        current=device.current,
    )


def _request_id(request: Any) -> UUID | None:
    return UUID(request.request_id) if request.request_id else None


def _language(number: int, field: str) -> Language | None:
    for known, language in LANGUAGES.items():
        if known == number:
            return language
    raise Invalid(violations=[Violation(field, "This is not one of the languages.", "enum.defined_only")])
