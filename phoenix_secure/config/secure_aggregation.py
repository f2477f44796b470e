"""The settings of secure aggregation, which hides each update from everybody else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from phoenix_secure.config.section import Section, YamlSwitch

__all__ = ["SecureAggregationConfig"]


class SecureAggregationConfig(Section):
    """Secure aggregation: the server learns the sum over at least three sites, never one update."""

    mode: Annotated[Literal["on", "off"], YamlSwitch] = Field(
        "on",
        description="[name] on, or off for research: then the server sees every site's update.",
    )
    # Unwritten where it is the one that there always was, for the same reason as ``broadcast``.
    suite: Literal["classical", "hybrid_pq"] = Field(
        "classical",
        exclude_if=lambda suite: suite == "classical",
        description="[name] What keys and signatures of secure rounds are made of. hybrid_pq: of "
        "curves and lattices (ML-KEM-768, ML-DSA-65), for updates that must stay secret from who "
        "records them today and has a quantum computer later. In a deployment it is that of the "
        "roster (`deploy found --suite`, in a rehearsal `deploy init --suite`).",
    )
    collusion: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="[fraction] Share of all sites of the federation, whatever the cohort, that "
        "may work with the server; among five sites or more at least one is always assumed to. 0 "
        "among three or four sites: sums hide an update only if no site works with the server, "
        "and each site's policy must allow for that (allow_no_colluders).",
    )
    # Unwritten where it is the one that there always was, for the same reason as ``broadcast``.
    graph: Literal["complete", "regular"] = Field(
        "complete",
        exclude_if=lambda graph: graph == "complete",
        description="[name] Who shares masks with whom. complete: each site of a round with every "
        "other one, up to 128 sites. regular: above 128 sites each with a few random others, a "
        "weaker option that holds but for a stated chance, against a server that does not choose "
        "by the graph who vanishes; each site's policy must allow for it (allow_regular_graph).",
    )
    dropout: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="[fraction] Share of a cohort that may vanish in a round; refused where the "
        "threshold does not leave so much.",
    )
    word_bits: Literal[16, 24, 32] = Field(
        24, description="[bits] One parameter on the wire; fewer bits round more coarsely."
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="[norm] Updates above this L2 norm are scaled down to it; empty: "
        "0.05 sqrt(parameters), which ordinary training does not reach.",
    )
    clip_value: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="[1] No parameter moves further than this in one update; with word_bits it "
        "decides how fine the rounding is.",
    )
    max_images: int | None = Field(
        None,
        ge=1,
        le=2**30,
        description="[images] Public bound on one site's images; a larger site counts as this "
        "many. Empty: the next power of two above the largest site, only in a simulation.",
    )
    # Unwritten unless the sites recompute the model: what a file from before it existed says by
    # silence, so that plans and run folders of that time keep their bytes, and their hashes.
    broadcast: Literal["sum", "model"] | None = Field(
        None,
        exclude_if=lambda broadcast: broadcast != "sum",
        description="[name] sum: the server sends each round's sum, every site computes the model "
        "from it and refuses another one. model: the server sends a model, which sites have to "
        "believe. Empty: sum.",
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="[attempts] Tries at one round before the run stops."
    )
    stage_deadline_s: float = Field(
        600.0, gt=0, description="[seconds] A stage after training is closed by then."
    )
    grace_s: float = Field(
        60.0,
        ge=0,
        description="[seconds] Once enough sites have answered a stage, wait this long for the "
        "others (in a deployment; a simulation waits for every site).",
    )
    training_grace_s: float = Field(
        1800.0, ge=0, description="[seconds] The same while the sites train."
    )
    # Unwritten unless set, so that plans of before keep their bytes and their hashes.
    reply_after_s: float | None = Field(
        None,
        exclude_if=lambda seconds: seconds is None,
        gt=0,
        le=86_400,
        description="[seconds] A site trains for so long at most, and answers then and not before, "
        "so that the time of its answer tells nothing of its images (in a deployment; a simulation "
        "answers at once). Empty: it answers when it is done.",
    )
    retry_pause_s: float = Field(
        10.0, ge=0, le=86_400, description="[seconds] Pause before another attempt."
    )
