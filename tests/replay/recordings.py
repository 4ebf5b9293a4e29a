"""Recordings, drawn."""

from hypothesis import strategies as st

from tracer.op import Kind, Op


@st.composite
def recordings(draw: st.DrawFn) -> list[Op]:
    """Ops as a recorder writes them: numbered as submitted, in the order of completion, with times
    that only grow; some may have no record."""
    count = draw(st.integers(0, 25))
    events, clock, flying, submitted, ops = draw(st.randoms(use_true_random=False)), 0, [], 0, []
    while submitted < count or flying:
        clock += events.randint(0, 2)
        if submitted < count and (not flying or events.random() < 0.5):
            flying.append(Op(submitted, int(Kind.WRITE), offset=0, length=1, submitted=clock))
            submitted += 1
        else:
            op = flying.pop(events.randrange(len(flying)))
            clock += 1  # a reply takes time
            op.completed = clock
            ops.append(op)
    lost = draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=2))
    return [op for op in ops if op.seq not in lost]
