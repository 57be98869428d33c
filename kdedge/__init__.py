"""kdedge: a BERT text classifier, distilled, exported, proven and measured.

Names are imported when they are first used, so that `import kdedge` loads no TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdedge.bench.run import bench_bundles as bench_bundles
    from kdedge.distill.adversary import AdversarialLoss as AdversarialLoss
    from kdedge.distill.adversary import Adversary as Adversary
    from kdedge.distill.adversary import Generator as Generator
    from kdedge.distill.adversary import Substitution as Substitution
    from kdedge.distill.adversary import adversarial_texts as adversarial_texts
    from kdedge.distill.attribution import explain as explain
    from kdedge.distill.attribution import gradient_x_input as gradient_x_input
    from kdedge.distill.attribution import integrated_gradients as integrated_gradients
    from kdedge.distill.distiller import Distiller as Distiller
    from kdedge.distill.losses import AttentionLoss as AttentionLoss
    from kdedge.distill.losses import DistillationLoss as DistillationLoss
    from kdedge.distill.losses import FeatureLoss as FeatureLoss
    from kdedge.distill.losses import HiddenStateLoss as HiddenStateLoss
    from kdedge.distill.losses import SoftLabelLoss as SoftLabelLoss
    from kdedge.distill.losses import TwoSidedCrossEntropy as TwoSidedCrossEntropy
    from kdedge.distill.multitask import MultiTaskDistiller as MultiTaskDistiller
    from kdedge.distill.prompts import AdversarialPrompt as AdversarialPrompt
    from kdedge.distill.prompts import SoftLabelPrompt as SoftLabelPrompt
    from kdedge.distill.prompts import raw_prompt as raw_prompt
    from kdedge.distill.prompts import with_task_prompt as with_task_prompt
    from kdedge.distill.schedules import LearningRate as LearningRate
    from kdedge.distill.schedules import Schedule as Schedule
    from kdedge.distill.train import distill_student as distill_student
    from kdedge.errors import KdedgeError as KdedgeError
    from kdedge.export.compression import compress as compress
    from kdedge.export.export import Subject as Subject
    from kdedge.export.export import export_bundle as export_bundle
    from kdedge.recipe import load_recipe as load_recipe
    from kdedge.runtime import load_bundle as load_bundle
    from kdedge.students.presets import build_student as build_student
    from kdedge.students.student import Student as Student
    from kdedge.teachers.bert import BertTeacher as BertTeacher
    from kdedge.teachers.bert import load_teacher as load_teacher
    from kdedge.teachers.ensemble import Ensemble as Ensemble
    from kdedge.teachers.ensemble import ensemble_soft_labels as ensemble_soft_labels
    from kdedge.teachers.finetune import finetune as finetune
    from kdedge.teachers.prompted import PromptedTeacher as PromptedTeacher
    from kdedge.teachers.prompted import load_prompted_teacher as load_prompted_teacher
    from kdedge.teachers.soft_labels import SoftLabels as SoftLabels
    from kdedge.teachers.soft_labels import label_texts as label_texts
    from kdedge.text.augment import augment as augment
    from kdedge.text.augment import augmented as augmented
    from kdedge.text.corpus import Corpus as Corpus
    from kdedge.text.corpus import load_corpus as load_corpus
    from kdedge.text.encoder import TextEncoder as TextEncoder
    from kdedge.text.neighbours import nearest_words as nearest_words

_HOMES = {
    "bench_bundles": "kdedge.bench.run",
    "AdversarialLoss": "kdedge.distill.adversary",
    "Adversary": "kdedge.distill.adversary",
    "Generator": "kdedge.distill.adversary",
    "Substitution": "kdedge.distill.adversary",
    "adversarial_texts": "kdedge.distill.adversary",
    "explain": "kdedge.distill.attribution",
    "gradient_x_input": "kdedge.distill.attribution",
    "integrated_gradients": "kdedge.distill.attribution",
    "Distiller": "kdedge.distill.distiller",
    "AttentionLoss": "kdedge.distill.losses",
    "DistillationLoss": "kdedge.distill.losses",
    "FeatureLoss": "kdedge.distill.losses",
    "HiddenStateLoss": "kdedge.distill.losses",
    "SoftLabelLoss": "kdedge.distill.losses",
    "TwoSidedCrossEntropy": "kdedge.distill.losses",
    "MultiTaskDistiller": "kdedge.distill.multitask",
    "AdversarialPrompt": "kdedge.distill.prompts",
    "SoftLabelPrompt": "kdedge.distill.prompts",
    "raw_prompt": "kdedge.distill.prompts",
    "with_task_prompt": "kdedge.distill.prompts",
    "LearningRate": "kdedge.distill.schedules",
    "Schedule": "kdedge.distill.schedules",
    "distill_student": "kdedge.distill.train",
    "KdedgeError": "kdedge.errors",
    "compress": "kdedge.export.compression",
    "Subject": "kdedge.export.export",
    "export_bundle": "kdedge.export.export",
    "load_recipe": "kdedge.recipe",
    "load_bundle": "kdedge.runtime",
    "build_student": "kdedge.students.presets",
    "Student": "kdedge.students.student",
    "BertTeacher": "kdedge.teachers.bert",
    "load_teacher": "kdedge.teachers.bert",
    "Ensemble": "kdedge.teachers.ensemble",
    "ensemble_soft_labels": "kdedge.teachers.ensemble",
    "finetune": "kdedge.teachers.finetune",
    "PromptedTeacher": "kdedge.teachers.prompted",
    "load_prompted_teacher": "kdedge.teachers.prompted",
    "SoftLabels": "kdedge.teachers.soft_labels",
    "label_texts": "kdedge.teachers.soft_labels",
    "augment": "kdedge.text.augment",
    "augmented": "kdedge.text.augment",
    "Corpus": "kdedge.text.corpus",
    "load_corpus": "kdedge.text.corpus",
    "TextEncoder": "kdedge.text.encoder",
    "nearest_words": "kdedge.text.neighbours",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdedge' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
