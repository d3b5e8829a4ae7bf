"""What `locust -f` takes: the users of `loadtest.users`, and Locust's hooks that give them flags and payloads.

By hand, with Locust's own web page and everything else that Locust can do:

    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --class-picker
    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --rate 50   # open loop, for each user

Each variant has a class of users, `Int8Openvino`, and each user sends to one variant. Locust deals `-u` users out to
the classes, those that `--class-picker` lets one choose on the page. The page's form shows our flags, too, but for
`--samples` and the flags of `loadtest.access`, which name files of this machine. Given at the start, `--host` and
`--model` show the variants before the first test; given in the form alone, afterwards.

`--processes 2` makes two workers beside the master; started by hand, workers may be on other machines, each with the
whole program installed. `$OURS` (`--host HOST:PORT`, `--model` to `--token-file`) go to each process, `$RUN`
(`--headless -u 8 -t 30s`) to the master:

    locust -f loadtest/locustfile.py $RUN $OURS --processes 2
    locust -f loadtest/locustfile.py $RUN $OURS --master --expect-workers 2
    locust -f loadtest/locustfile.py $OURS --worker --master-host MASTER   # and another

What workers send is put on the master's clock, and one that is lost makes the exit code 2 (`users/distributed.py`).

A server with TLS, mutual TLS or tokens is reached by the flags of `loadtest.access`, `--tls-ca` to `--token-file`.

`--rate` is what each user sends, on whichever worker it is; `loadtest/rampfile.py` lets the rate rise. For payloads of
your own, subclass `InferenceUser` (closed loop) or `PoissonUser` (open loop) in your own locustfile and give the class
`payloads`. Locust's statistics have whole milliseconds; `--samples FILE` keeps the raw samples.
"""

from loadtest.users.users import InferenceUser, PoissonUser  # before all else: see there
from loadtest.users.variant_users import VariantUser, VariantUsers

# isort: split
import logging
from pathlib import Path
from typing import NoReturn

from gevent import GreenletExit
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from loadtest.access import Access
from loadtest.users.distributed import Master, Worker
from loadtest.users.sample_keeper import SampleKeeper, SampleSender
from protos.errors import UsageError
from protos.support.options import add_flags

_RATE = "open loop: arrivals per second of each user; 0 is the closed loop, which waits for each answer"

__all__ = ["InferenceUser", "PoissonUser", "VariantUser"]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_flags(parser: LocustArgumentParser) -> None:
    """Adds the flags; Locust shows the parser's own in its form, and none of a group."""
    parser.add_argument("--model", env_var="PARETO_MODEL", default="", help="model whose variants are called")
    parser.add_argument("--variants", env_var="PARETO_VARIANTS", default="", help="separated by commas; else all")
    parser.add_argument("--rate", env_var="PARETO_RATE", type=float, default=0.0, help=_RATE)
    parser.add_argument("--deadline", env_var="PARETO_DEADLINE", type=float, default=10.0, help="seconds for each call")
    parser.add_argument("--repository", env_var="PARETO_REPOSITORY", default="models", help="where golden inputs are")
    group = parser.add_argument_group("Files of ParetoServe, not in the web form")
    group.add_argument("--samples", env_var="PARETO_SAMPLES", default="", help="file for the raw samples, .npz")
    add_flags(group, Access)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _begin(environment: Environment, **_: object) -> None:
    """Keeps raw samples with `--samples`, and has the variants' classes made when their time comes."""
    options = environment.parsed_options
    if options is None:
        return
    users = VariantUsers(environment, options)
    environment.events.test_start.add_listener(lambda **_: _start(environment, users))  # type: ignore[no-untyped-call]
    if isinstance(environment.runner, MasterRunner):
        Master(environment, environment.runner)
    if isinstance(environment.runner, WorkerRunner):
        worker = Worker(environment, environment.runner)
        if options.samples:
            SampleSender(environment, worker)
    elif options.samples:
        SampleKeeper(environment, Path(options.samples.removesuffix(".npz") + ".npz"), _stop)
    if options.model and options.host and not options.headless:
        try:
            users.make()
        except UsageError as error:
            logging.warning("the variants are not known yet: %s", error)


def _start(environment: Environment, users: VariantUsers) -> None:
    """Asks for the variants anew: the form may name another host or model, and a worker learns of it only now."""
    try:
        users.make()
    except UsageError as error:
        _stop(environment, str(error))
    classes, options = environment.user_classes, environment.parsed_options
    some = options.num_users if options and not isinstance(environment.runner, WorkerRunner) else None
    if some and some < len(classes):
        logging.warning("-u: got %s, expected %s or more: some variants get no user", some, len(classes))


def _stop(environment: Environment, message: str) -> NoReturn:
    """Ends a test before its load, with the message as one line of Locust's log."""
    environment.process_exit_code = 2
    options = environment.parsed_options
    if isinstance(environment.runner, MasterRunner):  # a master lets StopTest pass
        logging.error(message)
        if options and options.headless:
            environment.runner.quit()
        raise GreenletExit
    raise StopTest(message) from None
