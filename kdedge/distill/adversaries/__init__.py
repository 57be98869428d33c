"""Adversaries: sources of inputs on which teacher and student differ. Off by default.

The ablation (benchmarks/results/ablation.md) shows no gain from the substitution and harm from
the generator.
"""

from kdedge.distill.adversaries.adversary import Adversary
from kdedge.distill.adversaries.generator import Generator
from kdedge.distill.adversaries.prompt import AdversarialPrompt
from kdedge.distill.adversaries.substitution import Substitution

# A new adversary: a file here and a line in this table.
ADVERSARIES: dict[str, type[Adversary] | None] = {
    "none": None,
    "substitution": Substitution,
    "generator": Generator,
    "prompt": AdversarialPrompt,
}
