"""The numbers that decide or tune a growth check, each with the reason for its value.

`THRESHOLDS` is the one instance. A reason names the measurement, the false alarm or the rule of
arithmetic that set the value; "not measured" says that none is on record. Benchmarks that a reason
names are in `docs/benchmarks.md`.
"""

from dataclasses import dataclass, field
from typing import Any


def threshold(value: float, reason: str) -> Any:
    """Return a dataclass field with this default, and the reason for it in its metadata."""
    return field(default=value, metadata={"reason": reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The thresholds of growth checks. Parts are 0 to 1; other units are in the names.

    >>> Thresholds().runs_to_fail
    3
    """

    # -- estimation: time

    vote_groups: int = threshold(
        8,
        "Interleaved groups of 8 of the 64 blocks keep 4 blocks in each half of a group, so that "
        "one disturbed block outvotes one group only.",
    )
    votes_to_pass: int = threshold(
        8,
        "A lead of all votes of one run: with 2 runs, 0 false alarms and 0 misses in 12,034 checks "
        "(the fifth benchmark of 22 November 2026).",
    )
    runs_to_pass: int = threshold(
        2,
        "One timed run may be disturbed from its first delta to its last; a second one that is "
        "disturbed in the same way is unlikely.",
    )
    last_votes_to_pass: int = threshold(
        4,
        "Half of the votes of one run, where no second run of this length can be afforded; not "
        "measured apart from the benchmarks as a whole.",
    )
    votes_to_fail: int = threshold(
        16,
        "Twice the lead that passes: in one run that is disturbed halfway all 8 votes may be "
        "wrong, and a single run cannot give this lead.",
    )
    runs_to_fail: int = threshold(
        3,
        "Two runs give 16 votes, and one of them may be disturbed: with three runs, two "
        "undisturbed ones have to agree.",
    )
    steady_distance_part: float = threshold(
        1 / 4,
        "Slopes are taken between blocks at least this part of the run apart: over shorter "
        "distances the clock's noise is larger than the growth; not measured.",
    )
    steady_percentile: float = threshold(
        1 / 5,
        "The slope that four fifths of all pairs of blocks exceed. A step at any place raises "
        "fewer pairs than that, so a cache that overflows or memory mapped for the first time "
        "fails nothing.",
    )
    interval_tail: float = threshold(
        1 / 10,
        "The interval leaves out a tenth of the votes at each end; it is shown and decides "
        "nothing, so the value was chosen by convention.",
    )
    bumpy_part: float = threshold(
        0.15,
        "Steps between 64 blocks come to 2/64 of all cost where it climbs evenly, and to more than "
        "this where a throttle fires once in several blocks: then medians hide the cost.",
    )
    merged_blocks: int = threshold(
        4,
        "Costs that come rarely are judged in 64 / 4 = 16 blocks, as most of the 64 hold none of "
        "them: a scan every few hundred deltas was missed before (commit 5766a51).",
    )

    # -- estimation: the finish

    finish_halfway_power: float = threshold(
        0.35,
        "drawn_by_lot, a linear sort of scattered objects, grew by a power of 0.24 over 16 times "
        "the length (a tenth of runs over 0.43), quadratic work by 0.8 to 1; 0.35 is where two "
        "thirds of the work are quadratic.",
    )
    finish_evidence: float = threshold(
        1.0,
        "The sum of the distances from half-way that decides: two or three quadratic pairs. Less "
        "let contended caches fail drawn_by_lot in 5 of 262 checks, when lengths four times apart "
        "were compared.",
    )
    finish_latest_pairs: int = threshold(
        3,
        "Each pair counts as the median of itself and the two before it: a core that slows down "
        "for a while does so within few pairs.",
    )
    finish_length_ratio: int = threshold(
        16,
        "Over 4 times the length a delta of drawn_by_lot grew by a power of 0.47 with the memory "
        "busy, which is quadratic-like; over 16 times it grew by 0.24 (220 checks, no false "
        "alarm).",
    )
    weighty_finish_part: float = threshold(
        0.1,
        "A finish that is a smaller part of a run cannot carry a share near the usual limit of "
        "25%, so it gets no second comparison; not measured.",
    )

    # -- estimation: counts

    min_allocation_slope_bytes: float = threshold(
        0.25,
        "Bytes per delta per delta. Copies that grow by less copy under a twentieth of the earlier "
        "deltas; the sizes of containers and numbers vary by as much.",
    )
    min_delta_bytes: int = threshold(
        4,
        "A token of a model is about four bytes of text, so a copy of n deltas is at least 4 n "
        "bytes. A server allocates 4 kB a delta: copies of 1,000 deltas hid behind that in 1 of 30 "
        "checks (commit 7b43a37).",
    )

    # -- scheduling: how far, how often, for how long

    min_sizes: int = threshold(
        3,
        "A fixed set-up cost hides growth between two lengths; a third length shows whether the "
        "cost per item still rises.",
    )
    retry_cpu_factor: int = threshold(
        3,
        "A check that is unclear gets this many times its CPU seconds, once. In 10,012 checks of "
        "linear code none stayed inconclusive after it (fifth benchmark).",
    )
    allocation_run_cpu_part: float = threshold(
        0.35,
        "The part of the CPU seconds that a run under tracemalloc may take: tracing allocations "
        "slows code down most of all meters, so the part is the largest; not measured.",
    )
    call_run_cpu_part: float = threshold(
        0.1,
        "The part of the CPU seconds that a run that counts calls may take: a profile function "
        "costs less than tracemalloc, and time still has to be measured; not measured.",
    )
    showing_run_cpu_part: float = threshold(
        0.25,
        "The part of the CPU seconds for a longer run where counts have decided: its figures are "
        "for the reader alone, and the rest is kept for blame and times; not measured.",
    )
    within_part_beside_time: float = threshold(
        1 / 16,
        "The part of the maximum length to which counts must be linear where time goes all the "
        "way. It halved a cheap linear check from 40 ms to 20 ms (commit b7bf1a8).",
    )
    exceeded_part_beside_time: float = threshold(
        1 / 4,
        "The part of the maximum length to which counts must grow before they fail: a window that "
        "is full by then is no growth (a review's false alarm, commit 8e765cf).",
    )
    min_counted_deltas: int = threshold(
        1_000,
        "Counts go at least this far, or to a quarter of a shorter maximum length: at 1,024 deltas "
        "tracemalloc was right on 17 of 18 accumulators, identically in 100 repeats.",
    )
    min_timed_run_cpu_seconds: float = threshold(
        0.01,
        "A timed run that is shorter is no place to stop and vote, as a few scheduler ticks of 4 "
        "ms would decide; a longer stream costs little then.",
    )
    max_timed_runs: int = threshold(
        160,
        "Runs of one length at most. A finish at the border needs that many: with 40 one of 220 "
        "checks of drawn_by_lot was inconclusive (commit dcb5aeb).",
    )
    max_runs_before_longer: int = threshold(
        40,
        "Runs of a suspicious length at most where one longer run fits into the budget; divided by "
        "the square of how many fit. A length that fits twice is not put off for 40 runs of a "
        "shorter one.",
    )
    shown_timed_runs: int = threshold(
        3,
        "Timed runs behind the figures of a message where counts decided: the least of three is "
        "steady enough to read; it decides nothing.",
    )
    min_length_ratio: float = threshold(
        1.5,
        "A longer run must be likely to get this many times as far to be worth its cost; not "
        "measured: half an octave is the least that moves a carried share.",
    )
    planned_cpu_part: float = threshold(
        0.9,
        "The part of the CPU seconds left that a run is planned to take. The rest absorbs cores "
        "that get slower during it, as a run that is cut in its finish shows nothing.",
    )
    max_held_bytes: int = threshold(
        64 * 2**20,
        "Small-object memory held mapped while timing. Freed arenas made code that keeps one dict "
        "per delta climb from 46 to 84 ns; 64 MiB covers 20,000 deltas of 3 kB each.",
    )
    busy_wait_part: float = threshold(
        0.2,
        "A thread that waits for a core for a larger part of the time is on a busy machine, which "
        "an inconclusive message then says; it decides nothing and was not measured.",
    )
    state_retries: int = threshold(
        3,
        "The longest stream is run this many times more before leftovers are called state, as a "
        "server or an interpreter keeps a little of some runs; not measured.",
    )
    state_held_part: float = threshold(
        1 / 4,
        "What a run leaves behind is state if it is at least this part of what the run held: "
        "interpreters and libraries keep a little of each run, too.",
    )
    set_up_runs: int = threshold(
        3,
        "A client of a served stream is set up this often, and the least cost is taken off each "
        "run: the first connections are dearer than later ones.",
    )

    # -- running and stopping

    cpu_patience: float = threshold(
        1.05,
        "A consumer that does not pull is stopped after this many times its CPU seconds: a little "
        "more than the stream itself waits, so that a consumer that pulls ends by itself; "
        "not measured.",
    )
    stuck_part: float = threshold(
        0.25,
        "A stopped consumer that did not pull for this part of its CPU seconds went astray; one "
        "that pulled was slow. Calling all of them lost made 5 of 100 checks of re-parsed objects "
        "inconclusive (commit 9b8adf6).",
    )
    stop_grace_seconds: float = threshold(
        0.1,
        "An async consumer that waits is cancelled by its loop first; one that blocks the loop is "
        "stopped this much later, two ticks of 50 ms of the deadline.",
    )
    loop_closing_seconds: float = threshold(
        2.0,
        "An event loop of ours gets this long to end its tasks and threads: asyncio waits for "
        "executor threads without limit otherwise (a review's hang, commit 8e765cf).",
    )
    thread_turn_seconds: float = threshold(
        1e-6,
        "The sleep that lets the consumer's threads run takes 0.06 ms in all. Without it the "
        "allocation meter saw one in fifty copies of a fed thread; with it 40 of 40 checks "
        "exceeded (commit b7bf1a8).",
    )
    quiet_seconds: float = threshold(
        1.0,
        "A check says where it is when it has taken longer than people wait without wondering; "
        "most checks take 20 to 100 ms. Chosen, not "
        "measured.",
    )
    progress_interval_seconds: float = threshold(
        0.5,
        "The progress line changes at most twice a second, which can be read and costs no "
        "measurable time.",
    )

    # -- blame

    blame_cpu_part: float = threshold(
        0.25,
        "The part of the CPU seconds kept for blame as soon as a run is suspicious. It was 15% "
        "before commit a1c2ea3, which records no figures.",
    )
    blame_attempts: int = threshold(
        3,
        "Lengths tried for blame: one by the plan, and two after a run that was cut or that left "
        "time for a longer stream.",
    )
    min_blame_length_ratio: float = threshold(
        1.25,
        "A second traced stream must be this many times as long as the first: less shows no line "
        "that the first did not; not measured.",
    )
    line_tracing_slowdown: float = threshold(
        60,
        "Pure Python traced line by line is about this many times slower, by which the number of "
        "traced deltas is planned; C code is slowed down less, so plans err on the safe side.",
    )
    traced_runs_by_count: int = threshold(
        1,
        "One traced run shows allocations and calls, as counts are equal in every run.",
    )
    traced_runs_by_time: int = threshold(
        3,
        "The least of three traced runs counts for time: tracing costs more than much of what is "
        "traced, and what disturbs one run hits another place in the next.",
    )
    traced_cost_by_count: float = threshold(
        4,
        "Traced runs for counts are planned to cost this many times one untraced run; a plan that "
        "is too short is corrected by the next attempt.",
    )
    traced_cost_by_time: float = threshold(
        5,
        "Traced runs for time are planned to cost this many times one untraced run, as there are "
        "three of them; a trace that is cut shows nothing (commit a043485).",
    )
    traced_run_cpu_part: float = threshold(
        3 / 4,
        "The part of the CPU seconds left that a traced run may take. With less, anthropic 2.11.0 "
        "was blamed in 1 of 10 checks, with it in 12 of 12 (commit 269aed4).",
    )
    next_trace_cpu_part: float = threshold(
        2 / 3,
        "A further, longer traced run is planned for this part of what is left, so that it is not "
        "cut where tracing costs more than it did; not measured.",
    )
    cut_trace_divisor: int = threshold(
        8,
        "After a traced run that was cut, the next stream is an eighth as long: quadratic work "
        "then takes 1/64 of the time (commit 269aed4).",
    )
    min_traced_deltas: int = threshold(
        48,
        "Deltas traced early, and as many late: 48 show costs that come with each delta. For rarer "
        "costs noise was blamed in 48 deltas, so those are traced over more (commit 5766a51).",
    )
    min_traced_stream_deltas: int = threshold(
        16,
        "The shortest stream traced for counts: on a core five times slower nobody was blamed for "
        "re-parsing with longer ones (commit 45b9275).",
    )
    traced_window_divisor: int = threshold(
        16,
        "At most a sixteenth of all deltas is traced early, and as much late: that holds costs "
        "that come every few hundred deltas, and keeps both windows short of each other.",
    )
    trace_pieces: int = threshold(
        16,
        "Traced windows are compared in this many pieces, of which the least of several runs "
        "counts: what disturbs one run hits another piece in the next.",
    )
    slow_core_lines: int = threshold(
        3,
        "Where at least this many weighty lines all cost more late than early, the core was slower "
        "late: three unrelated lines do not grow in step.",
    )
    slow_core_lines_in_finish: int = threshold(
        2,
        "Two weighty lines suffice where whole finishes of two runs are compared, as a finish has "
        "fewer lines than a loop; not measured.",
    )
    slow_core_weighty_part: float = threshold(
        0.05,
        "Only lines with this part of the early cost tell the core's speed: cheaper lines waver by "
        "more than a core does.",
    )
    slow_core_max_factor: float = threshold(
        1.5,
        "Other processes slow a core down by up to half, so a larger step of all lines is growth.",
    )
    slow_core_min_factor_in_finish: float = threshold(
        0.5,
        "Between two runs a core may have got faster, too, by as much as half; within one run only "
        "slower is assumed (commit 75306ce).",
    )
    wavering_part: float = threshold(
        0.1,
        "The time it takes to trace a line wavers by a tenth of it, so a line that grew by less is "
        "let off where others explain the growth (commit 75306ce).",
    )
    explained_part: float = threshold(
        1 / 2,
        "Lines that grew by more than they waver must come to half of the untraced growth before "
        "the other lines are let off.",
    )
    lost_part: float = threshold(
        1 / 200,
        "Growth below this part of the cost of all traced lines is lost in what tracing costs, so "
        "nobody is blamed for time there.",
    )
    seen_part: float = threshold(
        1 / 3,
        "Nobody is blamed where less than this part of the expected growth shows: in a shorter "
        "stream it need not be linear in the length (anthropic 2.11.0, commit 269aed4).",
    )
    min_blamed_part: float = threshold(
        1 / 100,
        "Lines with less of the growth are left out of the list; a message shows the guiltiest "
        "line alone.",
    )
    finish_blame_part: float = threshold(
        2 / 3,
        "The finish is traced instead of the deltas where its excess is more than this part of "
        "what the deltas grew by, times the length; not measured.",
    )


THRESHOLDS = Thresholds()
