"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix_secure.audit.markdown_games import games_sections
from phoenix_secure.audit.report import (
    AttackReport,
    AuditReport,
    BlindReport,
    CanaryReport,
    Figure,
    TprReport,
)
from phoenix_secure.printed_text import markdown_cell

__all__ = ["percent", "to_markdown"]


def percent(found: TprReport) -> str:
    """``12.0 % [9.1, 15.4]``, or that it cannot be estimated."""
    if found.tpr is None:
        return "not estimable"
    mark = " (coarse)" if found.coarse else ""
    low, high = 100 * found.tpr.low, 100 * found.tpr.high
    return f"{100 * found.tpr.value:.1f} % [{low:.1f}, {high:.1f}]{mark}"


def to_markdown(report: AuditReport) -> str:
    """Verdict first, then every figure with its interval, then what they rest on."""
    verdict = report.verdict
    lines = [
        f"# Privacy audit: {verdict.headline}",
        "",
        *(f"- {markdown_cell(reason)}" for reason in verdict.reasons),
        f"- false alarm: {verdict.false_alarm}",
        f"- would have been found with a chance of 80 %: {_detectable(report)}",
        "",
        "An attack that finds nothing does not prove privacy: a better attack may find more.",
        "",
        *_advice(report),
        "## Target",
        "",
        *(f"- {name}: {markdown_cell(value)}" for name, value in report.target.items()),
        *_claim(report),
        *_copies(report),
        "",
        "## Attacks" if report.persons is None else "## Attacks on single images",
        "",
        *_not_independent(report),
        *_attacks(report.attacks, fprs=report.plan.fprs),
        "",
        *(f"- not run: {name}, which {markdown_cell(why)}" for name, why in report.skipped.items()),
        f"- p: of a rank test{_or_at_low_fpr(report.plan.low_fpr)}, adjusted over all attacks "
        "(Holm)",
        f"- placebo: the same attack on non-members alone, outside its band = not used "
        f"({sum(not one.placebo_inside for one in report.attacks)} of {len(report.attacks)})",
        _reversed(report),
        _blind(report.blind),
        *_losses(report),
        "",
        *_compared(report),
        *_persons(report),
        *_pooled(report),
        *_canaries(report),
        *_federated(report),
        *games_sections(report),
        *_copying(report),
        *_strata(report),
        *_exposed(report),
        "## The game",
        "",
        *(f"- {markdown_cell(sentence)}" for sentence in report.game),
        "",
        "## Plan",
        "",
        f"- SHA-256 {report.plan_sha256}, written before any score was computed (`plan.json`)",
        f"- other plans tried in this folder: {report.other_plans}",
        f"- profile {report.plan.profile}, seed {report.plan.seed}, {report.edition} edition, "
        f"phoenix-secure {report.plan.version}, {report.seconds:.0f} s",
        "",
    ]
    return "\n".join(lines)


def _advice(report: AuditReport) -> list[str]:
    lines = [f"- {markdown_cell(each)}" for each in report.advice]
    return ["## What to do", "", *lines, ""] if lines else []


def _copies(report: AuditReport) -> list[str]:
    copies = report.copies
    if copies is None:
        return []
    by_nature = copies.near > 0 and copies.alike_by_nature
    return [
        f"- copies among {copies.num_members} members: {copies.exact} equal to another pixel for "
        f"pixel, {copies.near} nearly; {copies.across} images are nearly like one of the other side"
        + (" (as often as unseen images are: they look alike by nature)" if by_nature else "")
    ]


def _compared(report: AuditReport) -> list[str]:
    compared = report.compared
    if compared is None:
        return []
    return [
        f"## Against the audit in {markdown_cell(compared.before)}",
        "",
        f"Plan {compared.before_plan_sha256}, the same images. Differences of AUC, paired by "
        "image; intervals hold for all attacks together.",
        "",
        "| attack | AUC now - AUC then |",
        "|---|---|",
        *(f"| {markdown_cell(one.name)} | {_interval(one.change)} |" for one in compared.attacks),
        "",
    ]


def _interval(found: Figure) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _or_at_low_fpr(fpr: float | None) -> str:
    return "" if fpr is None else f" or of one at FPR {fpr:g}, whichever is smaller"


def _detectable(report: AuditReport) -> str:
    verdict = report.verdict
    tpr = ""
    if verdict.detectable_tpr is not None:
        tpr = f", or a TPR of {verdict.detectable_tpr:.1%} at FPR {report.plan.low_fpr:g}"
    return f"an AUC of {verdict.detectable_auc:.3f}{tpr}"


def _claim(report: AuditReport) -> list[str]:
    claim = report.plan.claim
    if claim is None:
        return ["- claimed guarantee: none"]
    return [
        f"- claimed guarantee: epsilon {claim.epsilon:g}, delta {claim.delta:g}, unit {claim.unit} "
        f"({markdown_cell(claim.source)})"
    ]


def _pooled(report: AuditReport) -> list[str]:
    found = report.pooled
    if found is None:
        return []
    lines = [
        "## Sites",
        "",
        f"- {found.sites_answered} of {found.sites_asked} sites answered, {found.sites_entered} "
        f"had images enough: {found.num_members} members and {found.num_others} held-out "
        f"{found.unit}s together",
        f"- noise on the counts: {found.noise}",
    ]
    if found.frechet is not None:
        lines.append(
            f"- {found.frechet_name}: {found.frechet:.3f} between {found.frechet_samples} samples "
            f"and {found.frechet_held_out} held-out images; compare with distances of this name "
            "alone"
        )
    return [*lines, ""]


def _not_independent(report: AuditReport) -> list[str]:
    if report.persons is None:
        return []
    return [
        "**Several images are of one person: p and intervals of this table take them for "
        "independent and are wrong. The verdict rests on persons, below.**",
        "",
    ]


def _persons(report: AuditReport) -> list[str]:
    found, planned = report.persons, report.plan.persons
    if found is None or planned is None:
        return []
    strata = [
        f"- class {markdown_cell(one.group)}: {one.num_members} members, "
        f"{one.num_non_members} non-members, "
        f"{markdown_cell(one.reason) if one.auc is None else f'AUC {_interval(one.auc)}'}"
        for one in found.strata
    ]
    return [
        "## Attacks on persons, each from all of her images",
        "",
        f"- {found.num_members} members and {found.num_non_members} non-members, of "
        f"{found.images_in_the_middle:g} images in the middle and {found.images_of_most} at most",
        "- mean: of the scores of a person's images; ratio: the log likelihood ratio of them all "
        "(the sum of what each is above the middle of the tuning split; left out where all persons "
        "have as many images, and both rank alike)",
        f"- p: of a rank test of persons{_or_at_low_fpr(planned.low_fpr)}, adjusted over all rows "
        "(Holm); a person's class is that of most of her images",
        _blind(found.blind),
        "",
        *_attacks(found.attacks, fprs=report.plan.fprs),
        "",
        *(strata and [*strata, ""]),
    ]


def _attacks(attacks: Sequence[AttackReport], *, fprs: Sequence[float]) -> list[str]:
    head = " | ".join(f"TPR at {fpr:g} FPR" for fpr in fprs)
    rows = [
        f"| attack | holds | setting | AUC | {head} | p | placebo | queries | s |",
        "|---" * (len(fprs) + 8) + "|",
    ]
    return rows + [_row(one) for one in attacks]


def _row(one: AttackReport) -> str:
    tprs = " | ".join(percent(found) for found in one.tpr)
    placebo = f"{one.placebo_auc:.3f}" + ("" if one.placebo_inside else " (outside)")
    return (
        f"| {one.name} | {one.access} | {one.setting} | {_interval(one.auc)} | {tprs} | "
        f"{one.p_adjusted:.2g} | {placebo} | {one.queries_per_record:.0f} | {one.seconds:.1f} |"
    )


def _reversed(report: AuditReport) -> str:
    if report.pooled is not None:
        return "- settings and directions were fixed in the plan, before training; none is reversed"
    names = [one.name for one in report.attacks if one.reversed]
    chosen = report.attacks[0].chosen_on
    return (
        f"- settings and directions chosen on {chosen} ({report.choice_source} as the others); "
        f"reversed there: {', '.join(names) or 'none'}"
    )


def _blind(blind: BlindReport) -> str:
    if blind.auc is None:
        return f"- blind baseline (without the model): {markdown_cell(blind.reason)}"
    answer = "they DIFFER by themselves" if blind.differs else "no difference found"
    return (
        f"- blind baseline (members from non-members without the model): AUC "
        f"{_interval(blind.auc)}, {answer}"
    )


def _losses(report: AuditReport) -> list[str]:
    if report.loss_of_members is None or report.loss_of_non_members is None:
        return []
    return [
        f"- loss of members {report.loss_of_members:.4f}, of non-members "
        f"{report.loss_of_non_members:.4f}"
    ]


def _canaries(report: AuditReport) -> list[str]:
    found = report.canaries
    if found is None:
        return []
    return [
        "## Canaries",
        "",
        f"- {found.num_canaries} planted with probability 1/2, {found.num_included} trained on; "
        f"AUC {_interval(found.auc)}",
        f"- epsilon is at least {found.epsilon_steinke:.2f} (Steinke; had every guess been right: "
        f"{found.ceiling_steinke:.2f}), delta {found.delta:g}",
        f"- of a Gaussian mechanism at least {found.epsilon_gaussian:.2f} (f-DP; had every guess "
        f"been right: {found.ceiling_gaussian:.2f})",
        f"- claimed epsilon {found.claimed_epsilon}: {found.claim}",
        *_canary_placebo(found),
        "",
    ]


def _canary_placebo(found: CanaryReport) -> list[str]:
    if found.placebo_epsilon is None:
        return []
    return [
        f"- placebo, coins thrown again afterwards: epsilon at least {found.placebo_epsilon:.2f}; "
        f"{found.queries_per_record:.0f} queries a canary, {found.seconds:.1f} s"
    ]


def _federated(report: AuditReport) -> list[str]:
    found = report.federated
    if found is None:
        return []
    rows = [
        f"| {row.view} | {row.attack} | {_interval(row.auc)} | {percent(row.tpr)} |"
        for row in found.rows
    ]
    numbers = ", ".join(map(str, found.rounds))
    return [
        "## What the server would have seen",
        "",
        f"Round {numbers} trained again at every site; {found.num_members} members, "
        f"{found.num_non_members} non-members. The run used secure aggregation: "
        f"{found.secure_aggregation}.",
        "",
        f"| the server sees | attack | AUC | TPR at {found.rows[0].tpr.fpr:g} FPR |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _copying(report: AuditReport) -> list[str]:
    found = report.copying
    if found is None:
        return []
    share = "-" if found.closer_share is None else f"{found.closer_share:.3f}"
    return [
        "## Copies among the samples (a screen, not an attack)",
        "",
        f"- {found.num_samples} samples: authenticity {found.authenticity:.3f} (near 0: copies), "
        f"share nearer to members than to as many others {share} (p {found.closer_p})",
        f"- near copies of {found.extracted} members; control, of images that nobody trained on: "
        f"{found.extracted_control}; at most {found.extraction_rate_high:.2%} of samples (95 %)",
        "",
    ]


def _strata(report: AuditReport) -> list[str]:
    if not report.strata:
        return []
    rows = [
        f"| {one.kind} {markdown_cell(one.group)} | {one.num_members} | {one.num_non_members} | "
        f"{markdown_cell(one.reason) if one.auc is None else _interval(one.auc)} |"
        for one in report.strata
    ]
    best = min(report.attacks, key=lambda one: one.p_adjusted).name
    return [
        f"## Who is exposed ({best}; intervals hold for all rows of a kind together)",
        "",
        "| group | members | non-members | AUC |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _exposed(report: AuditReport) -> list[str]:
    if not report.exposed:
        return []
    certain = [one for one in report.exposed if one.p_adjusted <= 0.05]
    rows = [
        f"| {one.index} | {one.p_adjusted:.2g} | {markdown_cell(one.class_name or '-')} | "
        f"{markdown_cell(one.site or '-')} | {', '.join(map(str, one.nearest_members)) or '-'} | "
        f"{_distance(one.member_distance)} | {_distance(one.isolation)} | "
        f"{_distance(one.non_member_distance)} | {_distance(one.sample_distance)} |"
        for one in report.exposed
    ]
    return [
        "## Members that stand out (confidential)",
        "",
        f"Exposed even as the worst of many (p <= 0.05): {len(certain)}. Pictures: `exposed.png` "
        "(the member, the members nearest to it, the nearest non-member, the nearest sample).",
        "",
        "| member | p | class | site | nearest members | distance | isolation | to a non-member | "
        "to a sample |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Positions count the member images. Distances: root mean square difference of pixels in "
        "-1..1. Isolation: share of members that have another one nearer to them; high for an "
        "outlier, which is learnt by heart first. A sample this near, and no member: a copy.",
        "",
    ]


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
