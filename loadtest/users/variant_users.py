"""The users of a test by hand: one class for each variant, so that Locust's page picks them and counts them apart.

Locust wants its classes before anybody names a model. It begins with `VariantUser`; the variants' classes take its
place when host and model are known: at the start, where flags or the environment say them, else when a test starts.
"""

from loadtest.users.users import InferenceUser, OipUser, PoissonUser  # before all else: see there

# isort: split
import logging
import re
from argparse import Namespace
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

from locust.env import Environment
from locust.runners import MasterRunner

from loadtest.access import Access
from loadtest.client.credentials import Credentials, read_credentials
from loadtest.client.discovery import list_variants
from loadtest.client.oip import Client
from loadtest.client.payloads import Payload, make_inputs, make_payloads
from loadtest.plan import is_address
from protos.errors import UsageError
from protos.support.options import read


class VariantUser(InferenceUser):
    """Stands for the variants' classes until they are known; by itself it has nothing to send."""


class VariantUsers:
    """The variants' classes in one of Locust's processes.

    The files of `Access` are those of the process's own flags: a page that could name others would hand the first line
    of any file to any server.
    """

    def __init__(self, environment: Environment, options: Namespace) -> None:
        self._environment, self._access = environment, Namespace(**vars(options))
        self._made = dict[str, type[OipUser]]()

    def make(self) -> None:
        """Gives Locust the classes that its options ask for now; raises `UsageError` where there are none to be had.

        A class that is there already is kept, with what the page changed of it, and what was not picked stays so.
        """
        environment, options = self._environment, self._environment.parsed_options
        former: dict[str, type[OipUser]] = {VariantUser.__name__: VariantUser, **self._made}
        chosen = {user.__name__ for user in environment.user_classes if user in former.values()}
        if options is None or not chosen:  # somebody's own classes
            return
        credentials = read_credentials(read(Access, self._access))
        self._made = self._classes(_payloads(environment.host or "", options, credentials), options, credentials)
        left_out = set[str]() if VariantUser.__name__ in chosen else former.keys() - chosen
        self._replace(former, [user for name, user in self._made.items() if name not in left_out])

    def _classes(
        self, payloads: Mapping[str, list[Payload]], options: Namespace, credentials: Credentials
    ) -> dict[str, type[OipUser]]:
        made = dict[str, type[OipUser]]()
        for variant, sent in payloads.items():
            name = class_name(variant, made)
            user, base = self._made.get(name), PoissonUser if options.rate else InferenceUser
            if user is None or not issubclass(user, base):
                user = type(name, (base,), {})
            user.payloads, user.deadline, user.credentials = sent, options.deadline, credentials
            user.host = self._environment.host
            if issubclass(user, PoissonUser):
                user.rate = options.rate
            made[name] = user
        return made

    def _replace(self, former: Mapping[str, type[OipUser]], picked: list[type[OipUser]]) -> None:
        """Puts the classes into Locust's lists, in the place of the former ones."""
        environment, runner = self._environment, self._environment.runner
        environment.user_classes = [user for user in environment.user_classes if user not in former.values()]
        environment.user_classes += picked or self._made.values()
        available, tasks = environment.available_user_classes or {}, environment.available_user_tasks or {}
        for name in former:
            available.pop(name, None)
            tasks.pop(name, None)
        available.update(self._made)  # type: ignore[arg-type]  # they are classes, whatever Locust's annotation says
        tasks.update({name: list(user.tasks) for name, user in self._made.items()})
        if isinstance(runner, MasterRunner) and runner._users_dispatcher:  # it has begun to deal out the former ones
            workers = runner.clients.ready + runner.clients.running + runner.clients.spawning
            runner._users_dispatcher = environment.dispatcher_class(workers, environment.user_classes)


def class_name(variant: str, taken: Collection[str] = ()) -> str:
    """Returns a variant's name as that of a class, not one that is `taken`: `Int8Openvino`, `V1`, `Default`.

    The script of Locust's page leaves only names in this style alone: it makes `int8Openvino` of `int8_openvino`.
    """
    name = "".join(word[0].upper() + word[1:] for word in re.findall(r"[^\W_]+", variant))
    name = name if name.isidentifier() else f"V{name}"
    return next(each for each in (name, *(f"{name}{n}" for n in range(2, len(taken) + 3))) if each not in taken)


def _payloads(host: str, options: Namespace, credentials: Credentials) -> dict[str, list[Payload]]:
    """Returns what to send to each variant that is ready."""
    if not options.model:
        raise UsageError("--model: got '', expected the name of a model")
    if not is_address(host):
        raise UsageError(f"--host: got '{host}', expected HOST:PORT")
    with closing(Client(host, options.deadline, credentials)) as client:
        found = list_variants(client, options.model, tuple(filter(None, options.variants.split(","))))
    for variant, reason in found.skipped.items():
        logging.warning("variant %s is left out: %s", variant, reason)
    payloads = {}
    for variant, metadata in found.ready.items():
        inputs = make_inputs(options.model, metadata, Path(options.repository), seed=0)
        payloads[variant] = list(make_payloads(options.model, variant, metadata, inputs))
    return payloads
