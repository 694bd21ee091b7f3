"""A job: files of any size -> results in a folder, from which another process goes on when this one is killed."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets.channels import stack_channels
from disk.digest import sha256_of_file
from disk.publish import publish, sync
from imaging.errors import DataError, UnsuitableImage
from imaging.guards import UPLOAD
from imaging.open import is_image_folder, open_image
from imaging.source import ImageSource, MaskFormat
from imaging.writing.band_writer import open_writer, suffix_of
from inference.compatibility import check_suitable
from inference.plan import AnyPredictor
from inference.predict import predict
from inference.request import OutputRequest
from inference.segment import Segmentation
from service.engine.direct_calls import DISAGREEMENT
from service.engine.loaded_models import Model, Models
from service.engine.mask_comparison import MaskComparison
from service.engine.protocol import Message
from service.media_types import media_type_of
from service.schemas import JobOptions

MASK = "mask"  # what a single mask's file is called
RESULTS = "results.json"  # the last to be written: with it the results are there, without it they aren't

Progress = Callable[[int, int], None]


def _wishes(options: JobOptions, formats: Sequence[MaskFormat]) -> OutputRequest:
    return OutputRequest(
        mask_formats=tuple(formats),
        probabilities=options.probabilities,
        uncertainty=options.uncertainty,
        disagreement=options.disagreement and options.as_ensemble,
        spacing_um=_spacing(options),
        tissue=options.tissue,
    )


def _spacing(options: JobOptions) -> tuple[float, ...] | None:
    return tuple(options.spacing_um) if options.spacing_um else None


def check(inputs: Path, models: Sequence[Model], options: JobOptions) -> Message:
    """What is known of the image before the job is accepted: it can be opened, and suits the models.

    Raises:
        DataError: otherwise.
    """
    with _opened(inputs, spacing_um=_spacing(options)) as source:
        for model in models:
            check_suitable(source, model.predictor.config)
        return {"shape": list(source.shape), "warnings": list(source.warnings)}


def carry_out(folder: Path, models: Models, chosen: Sequence[Model], wanted: Message, on_progress: Progress) -> Message:
    """Makes the job's results, or finds them made; and says what they are.

    Args:
        folder: the job's, with `inputs/`.
        models: all that are loaded.
        chosen: those of the job.
        wanted: what the client wants: `formats` and `options`.
        on_progress: called with tiles done and in all.

    Raises:
        DataError: the image can't be read, or isn't one for these models or formats.
    """
    results = folder / "results"
    if (results / RESULTS).is_file():
        return _read(results)
    options = JobOptions.model_validate(wanted["options"])
    work = folder / "work"
    work.mkdir(exist_ok=True)
    wishes = _wishes(options, wanted["formats"])
    made = _made(folder / "inputs", work, _runs(models, chosen, options), wishes, on_progress)
    files = [path for each in made for path in each.files]
    if options.kind == "compare":
        files += _compared(work, chosen, [each.files[0] for each in made], folder / "inputs", options)
    warnings = dict.fromkeys(warning for each in made for warning in each.warnings)
    return _published(results, work, files, {"warnings": list(warnings), "seconds": sum(each.seconds for each in made)})


def _runs(models: Models, chosen: Sequence[Model], options: JobOptions) -> list[tuple[str, AnyPredictor]]:
    """What goes over the image, and how its files are named."""
    if options.as_ensemble and len(chosen) > 1:
        return [(MASK, models.ensemble(list(chosen), says_disagreement=options.disagreement))]
    if len(chosen) == 1:
        return [(MASK, chosen[0].predictor)]
    return [(model.manifest.name, model.predictor) for model in chosen]


@dataclass(frozen=True)
class _Made:
    """What one run made: its mask's file first."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    seconds: float


def _made(
    inputs: Path, work: Path, runs: Sequence[tuple[str, AnyPredictor]], wishes: OutputRequest, on_progress: Progress
) -> list[_Made]:
    """Every run's files; those that are there from before aren't made again."""
    made = []
    for number, (stem, predictor) in enumerate(runs):
        image = work / f"{stem}.image"  # its outputs are named by it
        if not image.is_symlink():
            image.symlink_to(_image(inputs), target_is_directory=_image(inputs).is_dir())
        out = work / stem
        done = _done(out) or _segmented(image, predictor, out, wishes, _share(on_progress, number, len(runs)))
        files = tuple(out / name for name in done["files"])
        made.append(_Made(files, tuple(done["warnings"]), done["seconds"]))
    return made


def _segmented(image: Path, predictor: AnyPredictor, out: Path, wishes: OutputRequest, on_progress: Progress) -> Message:
    """The files of one run."""
    (outcome,) = predict([image], predictor, out, wishes, lambda _, done, total: on_progress(done, total), _opened)
    if isinstance(outcome.result, DataError):
        raise outcome.result
    if not isinstance(outcome.result, Segmentation):
        raise RuntimeError("an image became an estimate")
    done: Message = {
        "files": [_packed(path).name for path in outcome.files],
        "warnings": list(outcome.result.warnings),
        "seconds": outcome.result.seconds,
    }
    if outcome.result.label:
        done["files"].append("labels.csv")
    publish(out / "done.json", lambda part: part.write_text(json.dumps(done)))
    return done


def _done(out: Path) -> Message | None:
    """What was made before a kill."""
    path = out / "done.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _share(on_progress: Progress, number: int, total: int) -> Progress:
    """Progress of one of several runs, as if each had as many tiles."""
    return lambda done, tiles: on_progress(number * tiles + done, total * tiles)


def _image(inputs: Path) -> Path:
    """The file, or the folder where there are several."""
    files = sorted(inputs.iterdir())
    return files[0] if len(files) == 1 else inputs


def _opened(path: Path, *, spacing_um: tuple[float, ...] | None = None) -> ImageSource:
    """A file, a folder with a DICOM series, or the files of a case's channels in their order; each in a process of its own."""
    real = path.resolve()
    if not real.is_dir() or is_image_folder(real):
        return open_image(real, guards=UPLOAD, spacing_um=spacing_um)
    sources: list[ImageSource] = []
    try:
        for file in sorted(real.iterdir(), key=lambda each: int(each.name)):
            sources.append(open_image(file, guards=UPLOAD, spacing_um=spacing_um))
        return stack_channels(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _packed(path: Path) -> Path:
    """A folder as one file, the same bytes each time."""
    if not path.is_dir():
        return path
    packed = path.with_name(f"{path.name}.zip")

    def pack(part: Path) -> None:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(each for each in path.rglob("*") if each.is_file()):
                archive.write(file, f"{path.name}/{file.relative_to(path)}")

    publish(packed, pack)
    shutil.rmtree(path)
    return packed


def _compared(work: Path, chosen: Sequence[Model], masks: Sequence[Path], inputs: Path, options: JobOptions) -> list[Path]:
    """How far two models' masks agree, band by band, and where they don't."""
    first, second = masks
    names = [section.name for section in chosen[0].manifest.classes]
    compared = MaskComparison(names)
    with open_image(first, labels=True) as one, open_image(second, labels=True) as other:
        if one.shape != other.shape:
            raise UnsuitableImage(
                "comparison_not_possible", "the two masks have different sizes; compare formats that keep the grid"
            )
        with _opened(_image(inputs), spacing_um=_spacing(options)) as source:
            geometry, chosen_format = source.geometry, source.mask_format
        out = work / f"disagreement{suffix_of(chosen_format)}"
        with open_writer(out, geometry, format=chosen_format, classes=DISAGREEMENT) as writer:
            for rows in _rows(one.shape):
                region = (rows, *(slice(0, size) for size in one.shape[1:]))
                writer.write(rows.start, compared.add(one.read(region)[0], other.read(region)[0]))
    report = work / "comparison.json"
    publish(report, lambda part: part.write_text(json.dumps(compared.answer([model.manifest.name for model in chosen]))))
    return [report, _packed(out)]


def _rows(shape: tuple[int, ...]) -> list[slice]:
    """Bands of about 16 million pixels."""
    rest = 1
    for size in shape[1:]:
        rest *= size
    height = max(1, 2**24 // rest)
    return [slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height)]


def _published(results: Path, work: Path, made: Sequence[Path], known: Message) -> Message:
    """The files in their place, hashed, and what they are, which comes last; then there is nothing to go on from."""
    results.mkdir(exist_ok=True)
    sync(results.parent)
    files = []
    for path in made:
        place = results / path.name
        if not place.is_file():  # from before a kill
            publish(place, partial(os.link, path))
        files.append(
            {
                "name": place.name,
                "bytes": place.stat().st_size,
                "sha256": sha256_of_file(place),
                "media_type": media_type_of(place.name),
            }
        )
    answer = {"results": files, **known}
    publish(results / RESULTS, lambda part: part.write_text(json.dumps(answer)))
    shutil.rmtree(work, ignore_errors=True)
    return answer


def _read(results: Path) -> Message:
    found: Any = json.loads((results / RESULTS).read_text())
    return dict(found)
