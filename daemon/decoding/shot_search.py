"""The search for a clip's shots in its decoding child, as far as windows are wanted."""

import asyncio
import itertools
import os
from functools import partial

from connectors.errors import Poison, Transient
from daemon.content.shots import ShotSpans
from daemon.decoding.clip_plan import ClipPlan, no_sense
from daemon.decoding.pool import DecoderPool
from daemon.decoding.protocol import FindShots, Shots


async def find_windows(pool: DecoderPool, plan: ClipPlan, windows: int | None, deadline_s: float) -> None:
    """Have a clip looked through until so many of its windows are known, or all of them; others need no look.

    The search has a descriptor of its own: where it is in the clip, windows are not.

    Raises:
        Poison: a window's frames can't be made small enough for what they may cost.
        Transient: the decoder failed.
    """
    shots, looked = plan.windows.shots, plan.shots_looked
    while shots is not None and not shots.is_complete and (windows is None or len(plan.windows) < windows):
        first = len(plan.windows)
        own = os.open(f"/proc/self/fd/{plan.media.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            request = partial(_request, plan, shots, looked, own)
            found, _ = await pool.ask(plan.session, request, Shots, deadline_s)
        except (Poison, Transient):
            plan.media.check_unchanged()
            raise
        finally:
            os.close(own)
        try:
            _take(found, plan, shots, looked)
        except ValueError as error:
            await pool.distrust(plan.session)
            raise no_sense(error) from error
        looked = plan.shots_looked = found.looked
        if plan.sized is not None:
            await asyncio.to_thread(plan.size_windows, first)


def _request(plan: ClipPlan, shots: ShotSpans, looked: int, own: int, is_open: bool) -> tuple[FindShots, list[int]]:
    until = int(plan.pts_ns.searchsorted(shots.needed_ns, side="right")) + 1
    request = FindShots(
        **plan.asked(is_open),
        known=looked,
        until=min(until, len(plan.pts_ns)),
        sensitivity=shots.policy.sensitivity,
        min_ns=shots.policy.min_ns,
    )
    return request, [own]


def _take(found: Shots, plan: ClipPlan, shots: ShotSpans, looked: int) -> None:
    """Take what a child found; ``ValueError`` where it can't be: nothing new, or cuts out of order or place."""
    cuts, frames = found.cuts, len(plan.pts_ns)
    places = (looked - 1, *cuts, found.looked)
    if not looked < found.looked <= frames or any(a >= b for a, b in itertools.pairwise(places)):
        raise ValueError(f"{len(cuts)} cuts from frame {looked} to {found.looked} of {frames}")
    looked_ns = plan.duration_ns if found.looked == frames else int(plan.pts_ns[found.looked])
    shots.add([int(plan.pts_ns[cut]) for cut in cuts], looked_ns)
