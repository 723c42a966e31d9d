"""Configuration: a YAML file and the environment, validated into one frozen ``Config``."""

from quotabell.config.channels import Channel, When
from quotabell.config.fields import SCOPES, Scope
from quotabell.config.jwt import Jwt
from quotabell.config.load import load
from quotabell.config.model import (
    Alerts,
    Auth,
    Config,
    Database,
    Ingest,
    Log,
    LogFormat,
    LogLevel,
    Push,
    Thresholds,
    Token,
)
from quotabell.config.net import Address
from quotabell.config.quotas import Quota
from quotabell.config.view import fingerprint, redacted

__all__ = [
    "SCOPES",
    "Address",
    "Alerts",
    "Auth",
    "Channel",
    "Config",
    "Database",
    "Ingest",
    "Jwt",
    "Log",
    "LogFormat",
    "LogLevel",
    "Push",
    "Quota",
    "Scope",
    "Thresholds",
    "Token",
    "When",
    "fingerprint",
    "load",
    "redacted",
]
