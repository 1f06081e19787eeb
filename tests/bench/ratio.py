"""Arms that take turns, and what their medians say."""
import dataclasses
import pathlib
import statistics

MOST_STOLEN = 0.005
TRIES = 3


def processor_time():
    """Ticks of all processors since the boot: (all, those that the host of this machine gave to others); proc(5)."""
    words = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    ticks = [int(word) for word in words[1:9]]
    return sum(ticks), ticks[7]


def least_disturbed(arm):
    """Its number, from a run that the host disturbed little, or the least of a few."""
    runs = []
    while len(runs) < TRIES:
        all_before, stolen_before = processor_time()
        number = arm()
        all_after, stolen_after = processor_time()
        runs.append(((stolen_after - stolen_before) / max(all_after - all_before, 1), number))
        if runs[-1][0] <= MOST_STOLEN:
            break
    return min(runs, key=lambda run: run[0])[1]


def interleave(arms, rounds):
    """arms: name -> a function that gives a number. Each round runs all, beginning with another one each time.
    name -> its numbers."""
    numbers = {name: [] for name in arms}
    names = list(arms)
    for turn in range(rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            numbers[name].append(least_disturbed(arms[name]))
    return numbers


def median(numbers):
    return statistics.median(numbers)


def spread(numbers):
    """How far apart they are, in per cent of the median."""
    return 100 * (max(numbers) - min(numbers)) / median(numbers)


@dataclasses.dataclass
class Line:
    """One line of the table."""
    what: str
    ours: str
    theirs: str
    ratio: float
    target: str  # ">= 1.0", "<= 1.2", "= 1"
    spread: str = ""

    def met(self):
        relation, bound = self.target.split()
        return {">=": self.ratio >= float(bound), "<=": self.ratio <= float(bound),
                "=": self.ratio == float(bound)}[relation]

    def markdown(self):
        return (f"| {self.what} | {self.ours} | {self.theirs} | {self.ratio:.3g} | {self.target} "
                f"| {'yes' if self.met() else '**no**'} | {self.spread} |")


HEADING = "| what | ours | theirs | ratio | target | met | spread |\n|---|---|---|---|---|---|---|"


def faster(what, size, ours, peers, target):
    """A line that compares times for `size` bytes: the rate of ours to that of the best of the peers."""
    best = min(peers, key=lambda name: median(peers[name]))

    def rate(numbers):
        return f"{size / 1e9 / median(numbers):.2f} GB/s"

    return Line(what, rate(ours), f"{rate(peers[best])} ({best})", median(peers[best]) / median(ours), target,
                f"{spread(ours):.0f} % / {spread(peers[best]):.0f} %")


def slower(what, ours, theirs, name, target):
    """A line that compares microseconds, taken in turns: the median of the runs' ratios."""
    return Line(what, f"{median(ours):.1f} us", f"{median(theirs):.1f} us ({name})",
                median([a / b for a, b in zip(ours, theirs)]), target,
                f"{spread(ours):.0f} % / {spread(theirs):.0f} %")


def more_often(what, ours, peers, target):
    """A line that compares operations a second with the best of the peers."""
    best = max(peers, key=lambda name: median(peers[name]))
    return Line(what, f"{median(ours):.0f} IOPS", f"{median(peers[best]):.0f} IOPS ({best})",
                median(ours) / median(peers[best]), target, f"{spread(ours):.0f} % / {spread(peers[best]):.0f} %")
