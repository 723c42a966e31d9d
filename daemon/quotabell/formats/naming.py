"""One table for what providers and models are called, whichever client names them.

A quota matches ``openai`` and ``gpt-*`` once; it must not matter that OpenTelemetry says
``az.ai.openai``, LiteLLM ``azure`` and a provider ``gpt-4o-2024-08-06``.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"

PROVIDERS = {
    # OpenTelemetry's gen_ai.provider.name and gen_ai.system of every era, LiteLLM's
    # custom_llm_provider, and what some libraries write instead.
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "amazon_bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "az.ai.inference": "azure_ai",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure_ai",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "chatgpt": "openai",
    "claude": "anthropic",
    "cohere_chat": "cohere",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "gcp.vertex_ai": "vertex_ai",
    "google": "gemini",
    "google_ai_studio": "gemini",
    "google_genai": "gemini",
    "google_vertexai": "vertex_ai",
    "vertexai": "vertex_ai",
    "vertex_ai_beta": "vertex_ai",
    "grok": "xai",
    "x_ai": "xai",
    "x.ai": "xai",
    "ibm.watsonx.ai": "watsonx",
    "mistralai": "mistral",
    "mistral_ai": "mistral",
    "ollama_chat": "ollama",
    "openai_like": "openai",
    "text-completion-openai": "openai",
    "togetherai": "together_ai",
}

MODELS = (
    # Beginnings of models whose client does not say the provider.
    *((beginning, "openai") for beginning in ("gpt-", "chatgpt-", "o1", "o3", "o4")),
    *((beginning, "openai") for beginning in ("text-embedding-", "whisper-", "dall-e-")),
    ("claude", "anthropic"),
    ("gemini", "gemini"),
    ("grok", "xai"),
    *((beginning, "mistral") for beginning in ("mistral", "codestral", "ministral")),
    ("deepseek", "deepseek"),
    ("command", "cohere"),
)

_SNAPSHOT = re.compile(
    r"[-@](?:\d{4}-\d{2}-\d{2}|20\d{6})$"  # gpt-4o-2024-08-06, claude-sonnet-4-5-20250929
)
_PATH = re.compile(r"^(?:models|publishers/[^/]+/models)/")  # Gemini and Vertex AI


def provider(name: str, of_model: str = "") -> str:
    """The one name of a provider; if its client does not say it, the one of the model."""
    plain = name.strip().lower()
    if plain and plain != UNKNOWN:
        return PROVIDERS.get(plain, plain)
    model_name = _PATH.sub("", of_model.strip())
    said, slash, _ = model_name.partition("/")
    if slash and said.lower() in {*PROVIDERS, *PROVIDERS.values()}:
        return PROVIDERS.get(said.lower(), said.lower())
    return next((of for beginning, of in MODELS if model_name.startswith(beginning)), UNKNOWN)


def model(name: str, of: str = "", said: str = "") -> str:
    """The one name of a model of the provider ``of``, which its client calls ``said``.

    Routers put the provider in front (``openai/gpt-4o``), providers the date of the snapshot
    behind: a limit holds for all snapshots of a model.
    """
    plain = _PATH.sub("", name.strip())
    for prefix in (said, of):
        if prefix and plain.startswith(prefix + "/"):
            plain = plain[len(prefix) + 1 :]
    plain = _PATH.sub("", plain)
    return _SNAPSHOT.sub("", plain) or UNKNOWN
