"""Scores of validation cases in a bundle, for tests that need some and don't depend on their figures."""

from models.bundle_metrics import BundleMetrics, CaseScore, MetricSummary


def bundle_metrics() -> BundleMetrics:
    """Scores of two cases, one without a distance."""
    return BundleMetrics(
        notes=("One case was left out.",),
        left_out=("case 3",),
        metrics=(
            MetricSummary(
                name="dice",
                title="Dice",
                unit="",
                better="higher",
                convention="2TP / (2TP + FP + FN).",
                mean=0.75,
                cases=2,
                classes={"nucleus": 0.5, "[cell]": 1.0},
            ),
            MetricSummary(
                name="hd95",
                title="HD95",
                unit="um",
                better="lower",
                convention="In micrometres.",
                mean=12.5,
                cases=1,
                classes={"nucleus": 12.5},
            ),
            MetricSummary(
                name="ece", title="ECE", unit="", better="lower", convention="Expected calibration error.", mean=None, cases=0
            ),
        ),
        scores=(
            CaseScore(case="patient 1", metric="hd95", class_name="nucleus", value=12.5, unit="um", remark="one_sided"),
            CaseScore(case="patient 2", metric="hd95", class_name="nucleus", value=None, unit="um", remark=""),
        ),
    )
