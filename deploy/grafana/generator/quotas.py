"""For people who own quotas: what is close, what burns, what rang, when it resets."""

from __future__ import annotations

from deploy.grafana.generator.parts import (
    ANY_IS_BAD,
    USAGE,
    Column,
    Json,
    Query,
    Row,
    annotation,
    bars,
    choice,
    dashboard,
    lines,
    stat,
    table,
    timeline,
)

# What counts for all providers, models or users at once is part of every choice.
QUOTAS = 'provider=~"$provider|[*]",model=~"$model|[*]",user=~"$user|"'
SUMS = 'provider=~"$provider",model=~"$model",user=~"$user"'
STATE = "quota, provider, model, user"
NAME = "{{quota}} {{provider}}/{{model}} {{user}}"
LEVELS = (("green", None), ("yellow", 75.0), ("orange", 90.0), ("red", 100.0))
SOON = (("red", None), ("orange", 3600.0), ("green", 4 * 3600.0))
BANDS = {"0-50": "green", "50-75": "blue", "75-90": "yellow", "90-100": "orange", "over": "red"}
SHOWN = 10


def of_state(metric: str) -> str:
    """A gauge of each quota state once, however many replicas expose it."""
    return f"max by ({STATE}) ({metric}{{{QUOTAS}}})"


def worst(metric: str, count: int) -> str:
    """The same of those states that have the largest share of their limit used in the end."""
    ratio = f"max by ({STATE}) (quotabell_quota_used_ratio{{{QUOTAS}}} @ end())"
    return f"{of_state(metric)} and topk({count}, {ratio})"


def rate(by: str, metric: str, more: str = "") -> str:
    """The rate of a running sum; max before sum, since replicas expose the same."""
    each = f"max without (instance, pod) (rate({metric}{{{SUMS}{more}}}[$__rate_interval]))"
    return f"sum by ({by}) ({each})"


def increase(metric: str) -> str:
    """The increase of a running sum over the time that is shown."""
    return f"max without (instance, pod) (increase({metric}{{{SUMS}}}[$__range]))"


USED_RATIO = "quotabell_quota_used_ratio"
BURN = "quotabell_quota_burn_tokens_per_second"
EXHAUSTS = "quotabell_quota_exhaustion_timestamp_seconds"
RESETS = "quotabell_quota_reset_timestamp_seconds"
SUBJECTS = "quotabell_quota_subjects"
RATIO = of_state(USED_RATIO)
LEVEL = f"max by ({STATE}, kind) (quotabell_alert_level_percent{{{QUOTAS}}})"
EXHAUSTION = of_state(EXHAUSTS)
KNOWN = f"count({RATIO})"  # nothing if nothing is known: no zero that would calm people
NAMES = '{__name__=~"quotabell_quota_used_tokens|quotabell_requests_total"'


def page() -> Json:
    """The whole page."""
    made = dashboard(
        "quotabell-quotas",
        "Quotabell: quotas",
        "What is close to its limit, what burns, what rings, and when it resets.",
        [
            choice("provider", "Provider", f"label_values({NAMES}}}, provider)", regex="/[^*]/"),
            choice(
                "model",
                "Model",
                f'label_values({NAMES}, provider=~"$provider"}}, model)',
                regex="/[^*]/",
            ),
            choice("user", "User", f"label_values({NAMES}}}, user)"),
        ],
        [_headline(), _table(), _close(), _ringing(), _tokens(), _spending()],
    )
    made["annotations"]["list"] = [
        annotation(
            "Alerts",
            LEVEL,
            title="{{provider}} / {{model}} {{user}}",
            text="{{kind}} alert of quota {{quota}}",
            tags="quota,kind",
        )
    ]
    return made


def _headline() -> Row:
    return Row(
        4,
        [
            stat(
                "Exhausted",
                "Quotas whose limit is reached or exceeded.",
                f"count({RATIO} >= 1) or 0 * {KNOWN}",
                steps=ANY_IS_BAD,
            ),
            stat(
                "At 90 % or more",
                "Quotas with a tenth of their limit left, or less.",
                f"count({RATIO} >= 0.9) or 0 * {KNOWN}",
                steps=(("green", None), ("orange", 1.0)),
            ),
            stat(
                "Ringing",
                "Alerts of any kind that fire now.",
                f"count({LEVEL}) or 0 * {KNOWN}",
                steps=(("green", None), ("orange", 1.0)),
            ),
            stat(
                "Run out before they reset",
                "Quotas whose limit is reached within their period at the present burn.",
                f"count({EXHAUSTION}) or 0 * {KNOWN}",
                steps=(("green", None), ("orange", 1.0)),
            ),
            stat(
                "First to run out",
                "In how long, at the present burn, the first of them has used its limit.",
                f"min({EXHAUSTION}) - time()",
                unit="s",
                steps=SOON,
                empty="none",
            ),
            stat(
                "Tokens",
                "Tokens of all kinds that were used in the time shown.",
                f"sum({increase('quotabell_tokens_total')})",
            ),
        ],
    )


def _table() -> Row:
    return Row(
        10,
        [
            table(
                "Worst quotas",
                "The 20 quotas with the largest share of their limit used. Burn: how fast they "
                "are used at present. Runs out: only if that is before the reset.",
                {"quota": "Quota", "provider": "Provider", "model": "Model", "user": "User"},
                [
                    Column("Used share", worst(USED_RATIO, 20), "percentunit", USAGE),
                    Column("Used", worst("quotabell_quota_used_tokens", 20)),
                    Column("Limit", worst("quotabell_quota_limit_tokens", 20)),
                    Column("Burn / s", worst(BURN, 20)),
                    Column("Runs out", f"1000 * ({worst(EXHAUSTS, 20)})", "dateTimeFromNow"),
                    Column("Resets", f"1000 * ({worst(RESETS, 20)})", "dateTimeFromNow"),
                ],
                sort="Used share",
            )
        ],
    )


def _close() -> Row:
    return Row(
        9,
        [
            lines(
                "Used share of the limit",
                f"The {SHOWN} quotas that are closest to their limit now. A fall to 0 is a new "
                "period.",
                Query(worst(USED_RATIO, SHOWN), NAME),
                unit="percentunit",
                steps=USAGE,
            ),
            lines(
                "Burn",
                f"How fast the {SHOWN} quotas closest to their limit are used, in weighted "
                "tokens, over the daemon's alerts.forecast.burn_window.",
                Query(worst(BURN, SHOWN), NAME),
                unit="cps",
            ),
            lines(
                "Subjects by used share",
                "How many subjects of all quotas have used so much of their limit, in percent, "
                "whatever is chosen above: also users without series of their own.",
                Query(f"sum by (band) (max by (quota, band) ({SUBJECTS}))", "{{band}}"),
                stacked=True,
                colors=BANDS,
            ),
        ],
        title="Close to the limit",
    )


def _ringing() -> Row:
    return Row(
        8,
        [
            timeline(
                "What rang",
                "Each alert while it fired, with its level in percent of the limit.",
                Query(LEVEL, NAME + " {{kind}}"),
                unit="percent",
                steps=LEVELS,
            ),
            bars(
                "Time to the reset",
                f"How long the periods of the {SHOWN} quotas closest to their limit last, the next"
                " to end first.",
                Query(f"sort(({worst(RESETS, SHOWN)}) - time())", NAME),
                unit="s",
            ),
        ],
        title="Ringing and resetting",
    )


def _tokens() -> Row:
    return Row(
        8,
        [
            lines(
                "Tokens by kind",
                "The kinds are disjoint: they add up to all tokens.",
                Query(rate("kind", "quotabell_tokens_total"), "{{kind}}"),
                unit="cps",
                stacked=True,
            ),
            lines(
                "Tokens by model",
                f"The {SHOWN} models with most tokens at each moment.",
                Query(
                    f"topk({SHOWN}, {rate('provider, model', 'quotabell_tokens_total')})",
                    "{{provider}}/{{model}}",
                ),
                unit="cps",
                stacked=True,
            ),
            bars(
                "Tokens by user",
                f"The {SHOWN} users with most tokens in the time shown.",
                Query(
                    f"topk({SHOWN}, sum by (user) ({increase('quotabell_tokens_total')}))",
                    "{{user}}",
                ),
            ),
        ],
        title="Tokens",
    )


def _spending() -> Row:
    cached = rate("provider, model", "quotabell_tokens_total", ',kind="cache_read"')
    prompts = rate(
        "provider, model", "quotabell_tokens_total", ',kind=~"input|cache_read|cache_write"'
    )
    return Row(
        8,
        [
            lines(
                "Calls by model",
                "Usage events per second.",
                Query(
                    rate("provider, model", "quotabell_requests_total"),
                    "{{provider}}/{{model}}",
                ),
                unit="reqps",
            ),
            lines(
                "Cost an hour by model",
                "US dollars an hour, as far as the senders of usage tell a cost.",
                Query(
                    f"3600 * {rate('provider, model', 'quotabell_cost_usd_total')}",
                    "{{provider}}/{{model}}",
                ),
                unit="currencyUSD",
            ),
            lines(
                "Share of the prompt that came from a cache",
                "Tokens read from the provider's cache, of all tokens of prompts.",
                Query(f"{cached} / ({prompts} > 0)", "{{provider}}/{{model}}"),
                unit="percentunit",
                maximum=1,
            ),
        ],
    )
