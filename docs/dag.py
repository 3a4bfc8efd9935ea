"""Draw the DAG for docs/pipeline.md: `dvc dag --mermaid | python docs/dag.py`. A stage's members become one node."""

from __future__ import annotations

import re
import sys


def collapse(mermaid: str) -> str:
    """Merge the nodes of `dvc dag --mermaid` that differ only in their member (`finetune@m1`, `finetune@m2`, ...)."""
    names = dict(re.findall(r'(node\d+)\["([^"]+)"\]', mermaid))
    stages = {node: name.partition("@")[0] for node, name in names.items()}
    per_member = {name.partition("@")[0] for name in names.values() if "@" in name}
    edges = sorted({(stages[a], stages[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", mermaid)})
    nodes = sorted(set(stages.values()))
    lines = ["flowchart TD"]
    lines += [f'  {stage}[["{stage} (per member)"]]' if stage in per_member else f"  {stage}" for stage in nodes]
    lines += [f"  {first} --> {second}" for first, second in edges]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(collapse(sys.stdin.read()) + "\n")
