"""What a client gets from a real server, over a real socket."""

import base64
import concurrent.futures
import gzip
import io
import itertools
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from PIL import Image
from servers import Server, wait_until

from imaging.open import open_image
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle
from service.schemas import media_type_of
from tests.phantom import draw_slide, draw_volume, write_pyramid_slide


def segment(client: httpx.Client, body: bytes, model: str, **query: str) -> httpx.Response:
    response = client.post("/v1/segment", params={"model": model, **query}, content=body)
    assert response.status_code == 200, response.text
    return response


def expected_mask(server: Server, body: bytes, model: str, folder: Path) -> NDArray[np.uint8]:
    (folder / "image").write_bytes(body)
    with open_image(folder / "image") as source:
        return segment_array(source, load_predictor(bundle.load(server.bundles[model])))


def pixels_of(body: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(body)))


def volume_of(body: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(body))


def test_models(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert set(models) == {"unet", "window", "volume", "fine", "three"}
    assert models["window"] == {
        "name": "window",
        "method": "sliding_window",
        "dimensions": 2,
        "channels": ["red", "green", "blue"],
        "classes": [
            {"name": "background", "colour": "#000000", "label": 0},
            {"name": "nucleus", "colour": "#ff0000", "label": 1},
        ],
        "spacing_um": None,
        "validation": {"dice": 0.5},
        "metrics": [],
        "calibration": None,
        "intended_use": "tests only",
    }


def test_a_calibrated_model_says_so_and_warns_of_images_that_it_is_uncertain_of(client: httpx.Client, picture: bytes) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert models["three"]["calibration"] == {
        "temperature": 2.0,
        "low_confidence": 1.0,
        "cases": 3,
        "ece_before": 0.2,
        "ece_after": 0.1,
    }
    response = segment(client, picture, "three")
    assert pixels_of(response.content).any()
    assert response.headers["x-overtile-warnings"] == "low_confidence"


@pytest.mark.parametrize("model", ["unet", "window"])
def test_a_picture_comes_back_as_the_mask_that_is_made_in_process(
    client: httpx.Client, server: Server, picture: bytes, model: str, tmp_path: Path
) -> None:
    response = segment(client, picture, model)
    assert np.array_equal(pixels_of(response.content), expected_mask(server, picture, model, tmp_path))
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"] == 'attachment; filename="mask.png"'
    assert float(response.headers["x-overtile-seconds"]) > 0
    assert response.headers["x-overtile-warnings"] == ""


def test_a_picture_as_tiff(client: httpx.Client, picture: bytes) -> None:
    as_tiff = segment(client, picture, "unet", format="tiff")
    assert as_tiff.headers["content-type"] == "image/tiff"
    assert np.array_equal(pixels_of(as_tiff.content), pixels_of(segment(client, picture, "unet").content))


def test_a_picture_without_spacing_is_given_one(client: httpx.Client, picture: bytes) -> None:
    response = client.post("/v1/segment?model=fine", content=picture)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "resolution_unknown")
    given = client.post("/v1/segment?model=fine&spacing_um=0.25", content=picture)
    each = client.post("/v1/segment?model=fine&spacing_um=0.25,0.25", content=picture)
    assert given.status_code == 200
    assert given.content == each.content
    both = client.post("/v1/compare?models=fine,unet&spacing_um=0.25", content=picture)
    assert both.status_code == 200


@pytest.mark.parametrize("text", ["wide", "0.25;0.25", ""])
def test_a_spacing_that_is_no_number(client: httpx.Client, picture: bytes, text: str) -> None:
    error = client.post(f"/v1/segment?model=fine&spacing_um={text}", content=picture).json()["error"]
    assert (error["code"], error["field"]) == ("parameter_invalid", "spacing_um")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "1,2,3"])
def test_a_spacing_that_can_not_be(client: httpx.Client, picture: bytes, text: str) -> None:
    response = client.post(f"/v1/segment?model=fine&spacing_um={text}", content=picture)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "spacing_invalid")


def test_a_slide_of_another_spacing_gets_its_mask_on_its_own_grid(client: httpx.Client, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "slide"
    write_pyramid_slide(path, draw_slide((260, 300), seed=1)[0], spacing_um=0.125)
    response = segment(client, path.read_bytes(), "fine")
    assert pixels_of(response.content).shape == (260, 300)
    assert np.array_equal(pixels_of(response.content), expected_mask(server, path.read_bytes(), "fine", tmp_path))


def test_a_pyramidal_slide_comes_back_as_tiff(client: httpx.Client, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "slide"
    write_pyramid_slide(path, draw_slide((260, 300), seed=1)[0], spacing_um=0.25)
    response = segment(client, path.read_bytes(), "fine")
    assert response.headers["content-type"] == "image/tiff"
    assert response.headers["content-disposition"] == 'attachment; filename="mask.tiff"'
    assert np.array_equal(pixels_of(response.content), expected_mask(server, path.read_bytes(), "fine", tmp_path))


def test_a_volume_keeps_its_geometry_in_each_of_the_48_orientations(client: httpx.Client) -> None:
    voxels, _ = draw_volume((10, 8, 6), seed=0)
    affine = np.array([[1.0, 0, 0, -3], [0, 1.5, 0, 5], [0, 0, 2, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(voxels[0].transpose(), affine)
    expected = None
    for axes in itertools.permutations(("LR", "PA", "IS")):
        for codes in itertools.product(*axes):
            turned = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
            answered = volume_of(segment(client, turned.to_bytes(), "volume").content)
            assert answered.shape == turned.shape
            assert np.allclose(answered.affine, turned.affine)
            back = ornt_transform(axcodes2ornt(codes), io_orientation(affine))
            mask = apply_orientation(np.asarray(answered.dataobj), back)
            expected = mask if expected is None else expected
            assert np.array_equal(mask, expected), codes
    assert expected is not None
    assert len(np.unique(expected)) == 2


def test_compare(client: httpx.Client, picture: bytes) -> None:
    response = client.post("/v1/compare", params={"models": "unet,window"}, content=picture)
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"models", "agreement", "dice", "disagreement", "media_type"}
    masks = [pixels_of(base64.b64decode(part["mask"])) for part in answer["models"]]
    for part, mask in zip(answer["models"], masks, strict=True):
        assert np.array_equal(mask, pixels_of(segment(client, picture, part["name"]).content))
        assert part["class_shares"]["nucleus"] == pytest.approx((mask == 1).mean())
        assert part["seconds"] > 0
        assert part["media_type"] == answer["media_type"] == "image/png"
    differ = masks[0] != masks[1]
    assert [part["method"] for part in answer["models"]] == ["unet", "sliding_window"]
    assert answer["agreement"] == pytest.approx(1 - differ.mean())
    assert answer["dice"] == {"nucleus": pytest.approx(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))}
    assert np.array_equal(pixels_of(base64.b64decode(answer["disagreement"])), differ)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_what_bentoml_answers(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_address_alone_leads_to_the_docs(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert "Overtile" in client.get("/", follow_redirects=True).text


def test_docs_are_ours_and_need_no_internet(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "Overtile" in page
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/assets/{asset}" in page
        assert client.get(f"/docs/assets/{asset}").status_code == 200


def test_openapi_says_what_the_routes_do(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    subjects = {path.split("/")[2] for path in api["paths"]}
    assert subjects == {"models", "segment", "compare", "uploads", "jobs"}
    operation = api["paths"]["/v1/segment"]["post"]
    assert set(operation["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "404",
        "408",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    }
    made = {media_type_of(f"mask{ending}") for ending in (".png", ".tiff", ".nii.gz", ".geojson", ".dcm")}
    assert set(operation["responses"]["200"]["content"]) == made
    assert operation["requestBody"]["content"] == {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
    }
    assert {parameter["name"] for parameter in operation["parameters"]} == {"model", "format", "spacing_um", "axes"}
    schema = operation["responses"]["422"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert "HTTPValidationError" not in api["components"]["schemas"]


def test_request_id(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers={"X-Request-ID": "case-7"}).headers["x-request-id"] == "case-7"
    for refused in ("a b", "x" * 65, "<script>", ""):
        assert len(client.get("/v1/models", headers={"X-Request-ID": refused}).headers["x-request-id"]) == 32


def test_more_requests_than_may_wait_are_sent_away(server: Server) -> None:
    body = Path(server.bundles["unet"]).parent / "large.png"
    Image.fromarray(np.moveaxis(draw_slide((512, 512), seed=2)[0], 0, -1)).save(body)
    with httpx.Client(base_url=server.url, timeout=60) as client, concurrent.futures.ThreadPoolExecutor(12) as pool:
        send = lambda _: client.post("/v1/segment?model=window", content=body.read_bytes())  # noqa: E731
        responses = list(pool.map(send, range(12)))
    good = [response for response in responses if response.status_code == 200]
    busy = [response for response in responses if response.status_code == 503]
    assert len(good) + len(busy) == 12
    assert len(good) >= 2
    assert len({response.content for response in good}) == 1
    assert {response.json()["error"]["code"] for response in busy} == {"busy"}
    assert {response.headers["retry-after"] for response in busy} == {"5"}


def test_no_folder_of_a_request_stays(client: httpx.Client, server: Server, picture: bytes) -> None:
    segment(client, picture, "unet")
    client.post("/v1/segment?model=unet", content=b"no image")
    wait_until(lambda: not list(server.folder.glob("overtile-request-*")), timeout_s=5)
