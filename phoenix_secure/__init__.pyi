"""The types behind the lazy names of ``__init__.py`` (a test compares the two)."""

from phoenix_secure.api.attacks import audit as audit
from phoenix_secure.api.models import export_bundle as export_bundle
from phoenix_secure.api.models import sample as sample
from phoenix_secure.api.quality import evaluate as evaluate
from phoenix_secure.api.reports import report as report
from phoenix_secure.api.reports import sign_report as sign_report
from phoenix_secure.api.results import AuditResult as AuditResult
from phoenix_secure.api.results import Quality as Quality
from phoenix_secure.api.results import ReportResult as ReportResult
from phoenix_secure.api.results import Samples as Samples
from phoenix_secure.api.runs import RunResult as RunResult
from phoenix_secure.api.runs import open_run as open_run
from phoenix_secure.api.runs import resume as resume
from phoenix_secure.api.runs import run as run
from phoenix_secure.api.sweeps import sweep as sweep
from phoenix_secure.api.verification import verify as verify
from phoenix_secure.config import RunConfig as RunConfig
from phoenix_secure.config_file import load_config as load_config
from phoenix_secure.errors import PhoenixError as PhoenixError
from phoenix_secure.extensions import ExtensionPoint as ExtensionPoint
from phoenix_secure.extensions import ReportSection as ReportSection
from phoenix_secure.extensions import register as register
from phoenix_secure.federation.round.report import RoundReport as RoundReport
from phoenix_secure.federation.round.report import StageReport as StageReport

__version__: str
