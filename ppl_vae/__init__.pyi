# Written by tests/support/stub.py.
from ppl_vae.core.errors import InputError as InputError
from ppl_vae.core.errors import NumericalError as NumericalError
from ppl_vae.graphs.captured import capture as capture
from ppl_vae.objectives import AnalyticKL_ELBO as AnalyticKL_ELBO
from ppl_vae.objectives import Trace_ELBO as Trace_ELBO
from ppl_vae.programs import draw as draw
from ppl_vae.programs import resolve as resolve
from ppl_vae.programs import simulate as simulate
from ppl_vae.programs import terms as terms
from ppl_vae.runs.opening import open_run as open_run
from ppl_vae.runs.run import Run as Run
from ppl_vae.verbs.check import check as check
from ppl_vae.verbs.compare import compare as compare
from ppl_vae.verbs.demo import demo as demo
from ppl_vae.verbs.describe import describe as describe
from ppl_vae.verbs.encode import encode as encode
from ppl_vae.verbs.evaluate import evaluate as evaluate
from ppl_vae.verbs.export import export as export
from ppl_vae.verbs.fit import fit as fit
from ppl_vae.verbs.impute import impute as impute
from ppl_vae.verbs.new import new as new
from ppl_vae.verbs.reconstruct import reconstruct as reconstruct
from ppl_vae.verbs.report import report as report
from ppl_vae.verbs.rerun import rerun as rerun
from ppl_vae.verbs.resume import resume as resume
from ppl_vae.verbs.sample import sample as sample
from ppl_vae.verbs.score import score as score

__version__: str
PIECES: dict[str, str]
