"""Errors of accounts and signing in; see :mod:`app.errors` for how they become sentences."""

from __future__ import annotations

from app.errors import AppError

__all__ = [
    "AccountError",
    "AccountExistsError",
    "AccountMissingError",
    "AccountNameError",
    "LastAdministratorError",
    "PasswordUnfitError",
    "ProviderError",
    "ProviderExpiredError",
    "ProviderInvalidError",
    "ProviderRefusedError",
    "ProviderRoleError",
    "ProviderUnreachableError",
    "QuotaError",
    "RateExceededError",
    "SignInDelayedError",
    "SignInFailedError",
    "SignedOutError",
    "WrongRoleError",
]


class AccountError(AppError):
    """Something about an account that cannot be done."""

    key = "account.error"
    template = "This cannot be done with the account: {reason}."


class SignInFailedError(AccountError):
    """Wrong name, wrong password, disabled account: the same error, so that none can be told from another."""

    key = "account.failed"
    template = "Name or password is wrong, or the account is disabled. Check both, or ask your administrator."


class SignInDelayedError(AccountError):
    """Too many failures; further attempts wait, whether or not there is such an account."""

    key = "account.delayed"
    template = "There were too many failed attempts. Wait {seconds} seconds, then try again."


class SignedOutError(AccountError):
    """A request without a sign-in that holds."""

    key = "account.signed_out"
    template = "You are not signed in any more. Sign in again; what you wrote is kept."


class RateExceededError(AccountError):
    """More requests than one person makes."""

    key = "account.rate"
    template = "There were too many requests in a short time. Wait {seconds} seconds, then try again."


class WrongRoleError(AccountError):
    """Something another role does."""

    key = "account.wrong_role"
    template = "Your account is not meant for this. Load the page again: it opens what your account may do."


class QuotaError(AccountError):
    """More images than are kept for one owner."""

    key = "account.quota"
    template = (
        "There is no room for more images: found {found}, at most {limit} are kept for each user. "
        "Delete conversations you no longer need, or ask your administrator."
    )


class PasswordUnfitError(AccountError):
    """A new password that is too easy to guess."""

    key = "account.password_unfit"
    template = (
        "This password cannot be used: it needs {least} to {most} characters, must not be your name, "
        "a common password, or the one you had. Choose another one, such as a sentence of four words."
    )


class AccountNameError(AccountError):
    """A name that no account can have."""

    key = "account.name_unfit"
    template = (
        "The name {found} cannot be used: expected 1 to {most} letters, digits, dots, hyphens, underscores "
        "or @, beginning with a letter or digit. Choose another name."
    )


class AccountExistsError(AccountError):
    """A name that is taken."""

    key = "account.exists"
    template = "There is an account {found} already. Choose another name, or reset that account's password."


class AccountMissingError(AccountError):
    """No account of that name."""

    key = "account.missing"
    template = "There is no account {found}. Check the name: bimedix2 users list shows all of them."


class LastAdministratorError(AccountError):
    """The last one who could let anybody in again."""

    key = "account.last_administrator"
    template = "{found} is the only administrator who can sign in. Make another administrator first."


class ProviderError(AccountError):
    """The organisation's sign-in did not vouch for somebody, or for nobody this application knows."""

    key = "account.provider"
    template = (
        "Signing in with your organisation did not work: {reason}. Try again, or ask your administrator."
    )


class ProviderUnreachableError(ProviderError):
    """The organisation's sign-in is not there, or answers otherwise than it should."""

    key = "account.provider_unreachable"
    template = (
        "Signing in with your organisation did not work: "
        "the sign-in service did not answer as expected. Try again, or ask your administrator."
    )


class ProviderRefusedError(ProviderError):
    """The organisation's sign-in said no."""

    key = "account.provider_refused"
    template = (
        "Signing in with your organisation did not work: "
        "the sign-in service refused it, or it was cancelled. Try again, or ask your administrator."
    )


class ProviderInvalidError(ProviderError):
    """What the organisation's sign-in said cannot be believed."""

    key = "account.provider_invalid"
    template = (
        "Signing in with your organisation did not work: "
        "what the sign-in service said could not be verified. Try again, or ask your administrator."
    )


class ProviderRoleError(ProviderError):
    """Somebody of the organisation who has no role here."""

    key = "account.provider_role"
    template = (
        "Signing in with your organisation did not work: "
        "your organisation has not given you access to this application. "
        "Try again, or ask your administrator."
    )


class ProviderExpiredError(ProviderError):
    """An answer that was not asked for, by this browser or in this time."""

    key = "account.provider_expired"
    template = (
        "Signing in with your organisation did not work: "
        "it took too long, or was begun in another browser. Try again, or ask your administrator."
    )
