"""The parameters and the schedule of a spec, checked and with the profile taken in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Reference
from dataset_tasks.spec import schema, windows
from dataset_tasks.spec.params import param_problem
from dataset_tasks.spec.places import Places
from dataset_tasks.spec.plan import Param, Schedule
from dataset_tasks.spec.problems import Path
from dataset_tasks.spec.shared import Settings
from dataset_tasks.spec.sources import KEY


class Head:
    """What stands above the datasets; `keys` are those of the datasets."""

    def __init__(self, pipeline: schema.Pipeline, settings: Settings, keys: Collection[str], places: Places) -> None:
        self.pipeline, self.settings, self.keys, self.places = pipeline, settings, keys, places

    def params(self) -> Iterator[Param]:
        """The parameters, with the defaults that the profile gives."""
        for name, model in self.pipeline.params.items():
            path: Path = ("params", name)
            if not KEY.match(name):
                self.places.at_key(path, f"{name!r} can't be a parameter; use small letters, digits and '_'")
            given = "default" in model.model_fields_set
            param = Param(
                name=name,
                type=model.type,
                default=model.default,
                required=not given,
                description=model.description,
                line=self.places.position_of_key(path)[0],
            )
            if given and model.default is not None:
                wrong = param_problem(param, model.default)
                if wrong:
                    self.places.at_value((*path, "default"), wrong)
            yield self._param_of_profile(param)

    def _param_of_profile(self, param: Param) -> Param:
        values = self.settings.profile.params
        if param.name not in values:
            return param
        value = values[param.name]
        wrong = param_problem(param, value)
        if wrong:
            self.places.problems.add(
                (1, 1), ("params", param.name), f"the profile {self.settings.profile_name!r} gives it: {wrong}"
            )
        return replace(param, default=value, required=False)

    def schedule(self) -> Schedule | None:
        """The schedule, the profile's where it has one; what is wrong in it is taken down."""
        of_profile = self.settings.profile.schedule
        if of_profile is False:
            return None
        model = of_profile or self.pipeline.schedule
        if model is None:
            return None
        path: Path = ("schedule",)
        chosen = [key for key in ("cron", "every", "after") if getattr(model, key) is not None]
        if len(chosen) != 1 and not self.places.within(path):
            found = f"found {' and '.join(chosen)}" if chosen else "found none"
            self.places.at_value(path, f"expected one of cron, every and after, {found}")
        for key, check in (("timezone", windows.zone), ("cron", windows.check_cron)):
            text = getattr(model, key)
            if text is not None:
                self.places.attempt((*path, key), check, text)
        if model.start is not None and not self.places.within((*path, "timezone")):
            self.places.attempt((*path, "start"), windows.moment, model.start, windows.zone(model.timezone))
        if model.catchup and model.start is None:
            self.places.at_value((*path, "catchup"), "catchup needs start, the first day to catch up with")
        if model.every is not None and model.every < 60:
            self.places.at_value((*path, "every"), "the shortest distance of runs is 1m")
        for place, text in enumerate(model.after or ()):
            self._check_after(place, text)
        return Schedule(
            cron=model.cron,
            every=model.every,
            after=tuple(model.after or ()),
            timezone=model.timezone,
            start=model.start,
            catchup=model.catchup,
        )

    def _check_after(self, place: int, text: str) -> None:
        path: Path = ("schedule", "after", place)
        if text in self.keys:
            self.places.at_value(path, f"{text!r} is made by this spec; name datasets of others as project/name")
            return
        try:
            reference = Reference.parse(text)
        except InvalidArgumentError:
            reference = Reference()
        if not reference.name or "@" in text:
            self.places.at_value(path, f"expected a dataset as project/name, found {text!r}")
