"""Exports a student, or any classifier, as a bundle of checked artifacts."""

from importlib.metadata import version
from pathlib import Path

from kdedge.bundle.manifest import (
    FORMAT_VERSION,
    SAMPLE_TEXTS,
    Artifact,
    Manifest,
    Source,
    samples_beside,
    score_of,
    write_manifest,
)
from kdedge.errors import KdedgeError
from kdedge.export.files import write_files, write_samples
from kdedge.export.prove import ROUNDING, Prover, check, planned
from kdedge.export.subject import Subject
from kdedge.files import new_folder, sha256
from kdedge.progress import console, progress
from kdedge.recipe import ARTIFACTS, FOR_LABELS, Decide, Export

# The loss of this number of test texts is always allowed: with few texts it can be chance.
CHANCE = 2


class RefusedArtifactsError(KdedgeError):
    """Artifacts lose more accuracy than is allowed; the bundle was written without them."""


def export_bundle(
    subject: Subject, settings: Export, out: Path | str, decide: Decide | None = None
) -> Manifest:
    """Convert a model, compare each artifact in its runtime with the source, write the bundle.

    Texts of the test split are written beside the bundle, for `kdedge bench`.

        >>> import numpy as np
        >>> from kdedge import Corpus, TextEncoder, build_student, subject_of_classifier
        >>> from kdedge.tasks import Classification
        >>> from kdedge.text.splits import Split
        >>> encoder, task = TextEncoder.load(Path("bundle")), Classification(label_names=("n", "p"))
        >>> size, length = len(encoder.vocabulary), encoder.max_length
        >>> model = build_student("nano", task=task, vocabulary=size, max_length=length)
        >>> split = Split(("a funny film", "a dull film"), np.array([1, 0], np.int32))
        >>> subject = subject_of_classifier("mine", model, encoder, Corpus(task, *[split] * 3))
        >>> export_bundle(subject, Export(artifacts=("onnx-float32",)), Path("exported")).defaults
        {'onnx': 'onnx-float32'}

    Args:
        subject: the model, with texts, labels and logits.
        settings: artifacts to write, and how much accuracy they may lose.
        out: folder to write.
        decide: when a prediction is unsure; by default for texts that are mostly of unknown tokens
            or unlike the training texts.

    Raises:
        RefusedArtifactsError: an artifact loses more on the test split than is allowed; the bundle
            has the others.
        KdedgeError: a length is too large, there are too few texts, `out` exists, a conversion
            fails, no threshold gives the precision that is wanted, or all artifacts are refused.
    """
    out = Path(out)
    check(subject, settings, out)
    artifacts, task = planned(settings, subject), subject.task
    if not task.has_confidence and ((decide and decide.asks) or subject.out_of_scope):
        raise KdedgeError(FOR_LABELS.format(task.name))
    source = score_of(task, task.outputs(subject.test.logits), subject.test.labels)
    prover = Prover(subject, settings, decide or Decide())
    made: list[Artifact] = []
    refused: list[str] = []
    samples = subject.test.texts if subject.samples is None else subject.samples
    inside = settings.sample_texts or subject.samples is not None
    with new_folder(out) as folder:
        write_files(subject, folder)
        with progress(f"exporting {subject.name}", len(artifacts), "artifacts") as advance:
            for one in artifacts:
                artifact = prover.make(one, folder)
                for layer in artifact.spared:
                    console.print(
                        f"{one.name}: {layer.name} stays {layer.kept_as}; quantized, it loses more "
                        f"on the valid split than max_accuracy_drop = {settings.max_accuracy_drop} "
                        "allows",
                        markup=False,
                    )
                drop = 100 * (source.value - artifact.score.value)
                if drop > max(settings.max_accuracy_drop, 100 * CHANCE / source.texts) + ROUNDING:
                    refused.append(f"{one.name} loses {drop:.2f} points")
                    (folder / artifact.file).unlink()
                else:
                    made.append(artifact)
                advance(1, one.name)
        lost = (
            f"{out}: refused: {'; '.join(refused)} of {task.metric}, more than max_accuracy_drop = "
            f"{settings.max_accuracy_drop}."
        )
        if not made:
            raise KdedgeError(f"{lost} No artifact is left, so no bundle was written.")
        write_samples(samples, folder / SAMPLE_TEXTS if inside else samples_beside(out))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            kdedge=version("kdedge"),
            task=task,
            pairs=subject.has_pairs,
            max_length=subject.encoder.max_length,
            source=Source(name=subject.name, parameters=subject.parameters, score=source),
            artifacts=tuple(made),
            defaults=_defaults(made),
            files={
                str(path.relative_to(folder)): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        )
        write_manifest(folder, manifest)
    if refused:
        raise RefusedArtifactsError(f"{lost} The other artifacts were written.")
    return manifest


def _defaults(artifacts: list[Artifact]) -> dict[str, str]:
    """The default artifact of each format: the one that comes first in `ARTIFACTS`."""
    order = [name for name in ARTIFACTS if name in {artifact.name for artifact in artifacts}]
    formats = {artifact.name: artifact.format for artifact in artifacts}
    return {formats[name]: name for name in reversed(order)}
