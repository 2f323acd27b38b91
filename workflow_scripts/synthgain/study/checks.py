"""Cross-references of a study: every name leads somewhere, every column exists, every arm has a baseline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from synthgain.data.templates import FINDINGS, fields_of
from synthgain.data.votes import votes_of
from synthgain.entry import nearest
from synthgain.generators.steering_options import PROXY_NETWORKS, SEGMENTER_STEP
from synthgain.pools.known_checks import known_problem
from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.metric_registry import METRICS
from synthgain.study.check_autoencoders import Parts, check_autoencoders, latent_size
from synthgain.study.check_clusters import check_clusters
from synthgain.study.check_masks import check_masks
from synthgain.study.check_panels import check_panels, reward_problem
from synthgain.study.check_styling import check_styling
from synthgain.study.neighbours import missing_neighbour, panel_problem
from synthgain.study.roles import baseline_of, borrowed, is_plain, prompt_of, root_pool, source_dataset

if TYPE_CHECKING:
    from synthgain.networks.options import Network
    from synthgain.readers.options import Panel
    from synthgain.study.schema import Primary, Study


def check_references(study: Study) -> None:
    """Raise ValueError, one line naming the place and the nearest valid name, at the first broken reference."""
    check_autoencoders(_parts(study))
    _check_networks(study)
    _check_data(study)
    _check_generation(study)
    check_clusters(study)
    check_styling(study)
    _check_arms(study)
    check_masks(study)
    _check_analysis(study)
    _check_evaluation(study)
    _check_readers(study)
    _check_overlaps(study)


def _check_networks(study: Study) -> None:
    """Every network must be one that can be built for the images that it will see."""
    entries: dict[str, tuple[Network, int]]
    parts = _parts(study)
    entries = {f"generators.{name}.network": (g.network, latent_size(parts, g)) for name, g in study.generators.items()}
    entries |= {f"models.{name}.network": (m.chosen, m.window or study.image.size) for name, m in study.models.items()}
    for place, (network, size) in entries.items():
        try:
            network.check_size(size)
        except SynthGainError as error:
            raise ValueError(f"{place}: {error}") from None


def _parts(study: Study) -> Parts:
    users = {g.autoencoder_name for g in study.generators.values()} | {p.autoencoder for p in study.pools.values()}
    return Parts(study.autoencoders, study.generators, study.datasets, study.image.size, frozenset(users))


def _check_data(study: Study) -> None:
    for name in study.evaluate_on:
        _known(name, study.datasets, "evaluate_on")
    for place, model in study.models.items():
        for dataset in study.evaluate_on:
            _check_columns(study, dataset, model.targets, f"models.{place}.targets")


def _check_generation(study: Study) -> None:
    for name, generator in study.generators.items():
        place = f"generators.{name}"
        for dataset in generator.train_on.datasets:
            _trained(study, dataset, f"{place}.train_on.datasets")
            _check_columns(study, dataset, generator.columns, f"{place}.condition_on")
        if generator.init_from is not None:
            _known(generator.init_from, study.generators, f"{place}.init_from")
    _no_circle("generators", {name: g.init_from for name, g in study.generators.items()})
    _check_steering(study)
    for name, generator in study.generators.items():
        if generator.prompt_name is not None:
            _known(generator.prompt_name, study.prompts, f"generators.{name}.prompt")
            for dataset in generator.train_on.datasets:
                _check_prompt(study, generator.prompt_name, dataset)
    for name, pool in study.pools.items():
        place = f"pools.{name}"
        if pool.from_ is not None:
            _known(pool.from_, study.generators, f"{place}.from")
        if pool.autoencoder is not None:
            _known(pool.autoencoder, study.autoencoders, f"{place}.autoencoder")
            if study.autoencoders[pool.autoencoder].output != "image":
                raise ValueError(f"{place}.autoencoder: {pool.autoencoder!r} takes masks too; name one of images alone")
        if pool.prompt is not None:
            _known(pool.prompt, study.prompts, f"{place}.prompt")
            if study.generators[pool.from_ or ""].prompt_name is None:
                raise ValueError(f"{place}.prompt: the generator {pool.from_!r} is told of no text; give it a prompt")
            if pool.rows_of in study.datasets:
                _check_prompt(study, pool.prompt, pool.rows_of or "")
        if pool.rows_of is not None:
            _trained(study, pool.rows_of, f"{place}.rows_of")
        for other in (pool.of, pool.thin_to):
            if other is not None:
                _known(other, study.pools, f"{place}.of")
        if pool.thin_to is not None and study.pools[pool.thin_to].filter is None:
            raise ValueError(f"{place}.thin_to: pool {pool.thin_to!r} has no filter whose size could be taken")
        problem = pool.known and known_problem(pool.known, pool.known_options, bool(pool.balance))
        if problem:
            raise ValueError(f"{place}.{problem}")
        if pool.balance and pool.rows_of:
            _check_columns(study, pool.rows_of, pool.balance, f"{place}.balance")
        if pool.known and pool.rows_of:
            _check_columns(study, pool.rows_of, pool.known_options.drop, f"{place}.known_options.drop")
    _no_circle("pools", {name: pool.of for name, pool in study.pools.items()})
    if study.study_seeds is not None and study.replicates.looks is not None:
        raise ValueError("replicates.looks: not for studies with study_seeds, which are looked at once")
    if study.study_seeds is not None and any(pool.known is None and pool.of is None for pool in study.pools.values()):
        raise ValueError("study_seeds: only for studies whose pools are all of known truth (pools.*.known)")


def _check_steering(study: Study) -> None:
    """A steered generator needs its neighbours: without them nothing says what the steering did."""
    for name, generator in study.generators.items():
        reward, place = generator.steered_by, f"generators.{name}.reward"
        if reward is None:
            continue
        if reward.target is not None:
            for dataset in generator.train_on.datasets:
                _check_columns(study, dataset, [reward.target], f"{place}.target")
                if reward.labels is not None:
                    _check_columns(study, dataset, [reward.labels], f"{place}.labels")
        if reward.name is not None:
            _known(reward.name, study.readers, f"{place}.name")
            problem = panel_problem(study.readers[reward.name], reward.column or "")
            if problem:
                raise ValueError(f"{place}.{problem}")
            rated = {root_pool(study, pool).from_ for pool in study.readers[reward.name].items.pools}
            if _origin(study, name) not in {_origin(study, one) for one in rated if one is not None}:
                raise ValueError(
                    f"{place}.name: {reward.name!r} rates no images of {generator.init_from!r}, whose samples it would "
                    "score; add a pool that it draws to items.pools"
                )
        problem = reward_problem(generator, study.datasets)
        if problem:
            raise ValueError(f"{place}.{problem}")
        if reward.scores == "segmenter" and study.image.size % SEGMENTER_STEP:
            raise ValueError(f"{place}.scores: segmenter needs image.size to be a multiple of {SEGMENTER_STEP}")
        network = PROXY_NETWORKS.get(reward.scores)
        if study.models and all(model.chosen.name == network for model in study.models.values()):
            raise ValueError(
                f"{place}: its proxies, what filters and every model that judges are of one network "
                f"({network}), so that "
                "what one overlooks all overlook; give models another network, or add such a model"
            )
        if not reward.shuffled:
            problem = missing_neighbour(name, study.generators, study.pools)
            if problem:
                raise ValueError(f"{place}: {problem}")


def _origin(study: Study, name: str) -> str:
    """Return the generator that a generator goes back to, through `init_from`."""
    start = study.generators[name].init_from
    return name if start is None else _origin(study, start)


def _check_arms(study: Study) -> None:
    for name, arm in study.arms.items():
        place = f"arms.{name}"
        if arm.real is not None:
            _trained(study, arm.real, f"{place}.real")
            for model, config in study.models.items():
                _check_columns(study, arm.real, config.targets, f"models.{model}.targets (trained on {arm.real})")
                _check_votes(study, arm.real, model)
        if arm.synthetic is not None:
            _known(arm.synthetic, study.pools, f"{place}.synthetic")
            _check_ratios(study, name)
            if arm.label_fraction < 1 and arm.real is None and source_dataset(study, arm.synthetic) is None:
                raise ValueError(
                    f"{place}.label_fraction: pool {arm.synthetic!r} copies no rows of a data set, so none is "
                    "unlabelled; leave it out, or give the pool rows_of"
                )
        if arm.baseline is not None:
            _known(arm.baseline, study.arms, f"{place}.baseline")
        if baseline_of(study, name) is None and not is_plain(arm):
            wanted = arm.real or source_dataset(study, arm.synthetic or "")
            raise ValueError(f"{place}: no baseline; add an arm {{real: {wanted}}} or name one with baseline:")


def _check_ratios(study: Study, name: str) -> None:
    """A pool that copies the arm's own rows must hold enough replicas; other sizes are known only when it is drawn."""
    arm = study.arms[name]
    pool = study.pools[arm.synthetic or ""]
    if pool.imported is not None or pool.of is not None:
        return
    if arm.real is None or arm.real == pool.rows_of:
        most, ratio = 100 * pool.replicas, max(arm.ratios, default=0)
        if ratio > most:
            raise ValueError(
                f"arms.{name}.ratios: {ratio} % is over the pool {arm.synthetic!r}, whose {pool.replicas} "
                f"replicas hold {most} %; raise pools.{arm.synthetic}.replicas to {-(-ratio // 100)}"
            )


def _check_analysis(study: Study) -> None:
    primary = study.analysis.primary
    if primary is None:
        if not study.rehearsal:
            raise ValueError("analysis.primary: declare one comparison before the run")
        return
    if isinstance(primary, list) and study.study_seeds is None:
        raise ValueError("analysis.primary: a list is for studies with study_seeds; declare one comparison")
    for entry in study.analysis.primaries:
        _check_primary(study, entry)
    metrics = list(dict.fromkeys(entry.metric for entry in study.analysis.primaries))
    if len(metrics) > 1:
        raise ValueError(
            f"analysis.margin: one margin serves one metric, but {' and '.join(metrics)} are primary; declare one"
        )
    _check_somewhere(study, study.evaluate_on, study.analysis.subgroups, "analysis.subgroups")


def _check_evaluation(study: Study) -> None:
    for pool in study.evaluation.pools or []:
        _known(pool, study.pools, "evaluation.pools")
    fidelity = study.evaluation.fidelity
    if fidelity is not None:
        _check_somewhere(study, study.datasets, fidelity.by, "evaluation.fidelity.by")
    if fidelity is not None and "inception" in fidelity.spaces and fidelity.inception_weights is None:
        raise ValueError(
            "evaluation.fidelity.inception_weights: the space inception needs the file of its weights; name it, or "
            "leave inception out of spaces"
        )


def _check_primary(study: Study, primary: Primary) -> None:
    _known(primary.model, study.models, "analysis.primary.model")
    _known(primary.arm, study.arms, "analysis.primary.arm")
    if primary.test_set not in study.evaluate_on:
        _known(primary.test_set, study.evaluate_on, "analysis.primary.test_set")
    arm = study.arms[primary.arm]
    if primary.ratio not in (arm.ratios or [0]):
        listed = ", ".join(map(str, arm.ratios or [0]))
        raise ValueError(f"analysis.primary.ratio: arm {primary.arm!r} has no ratio {primary.ratio}; it has {listed}")
    if borrowed(study, primary.arm):
        raise ValueError(
            f"analysis.primary.arm: {primary.arm!r} is borrowed (its generator saw real patients that its baseline "
            "does not train on) and cannot be primary"
        )
    model = study.models[primary.model]
    if primary.labels != "macro" and len(model.labels) > 1 and primary.labels not in model.labels:
        hint = nearest(primary.labels, ["macro", *model.labels])
        raise ValueError(f"analysis.primary.labels: {primary.labels!r}; {hint}")
    metric = METRICS[primary.metric]
    if metric.task != model.kind.predictions:
        raise ValueError(f"analysis.primary.metric: {primary.metric} is not for {model.task} (model {primary.model!r})")
    analysis = study.analysis
    if metric.default_margin:
        return
    if "margin" not in analysis.model_fields_set:
        raise ValueError(
            f"analysis.margin: ±{analysis.margin:g} of {metric.label} is no defensible default; give the margin"
        )
    if not analysis.margin_reason.strip():
        raise ValueError(
            f"analysis.margin_reason: say why ±{analysis.margin:g} of {metric.label} is too small to matter; only for "
            "AUROC is there a usual margin"
        )


def _known(name: str, names: Iterable[str], place: str) -> None:
    if name not in names:
        raise ValueError(f"{place}: there is no {name!r}; {nearest(name, names)}")


def _trained(study: Study, dataset: str, place: str) -> None:
    _known(dataset, study.datasets, place)
    if study.datasets[dataset].split is None:
        raise ValueError(f"{place}: data set {dataset!r} has no split, so it is for testing only; give it a split")


def _check_columns(study: Study, dataset: str, columns: Iterable[str], place: str) -> None:
    known = study.datasets[dataset].known_columns
    for column in columns:
        if known is not None and column not in known | {"site"}:
            raise ValueError(f"{place}: data set {dataset!r} has no column {column!r}; {nearest(column, known)}")


def _check_votes(study: Study, dataset: str, model: str) -> None:
    """A model that learns from votes must find some in what it trains on."""
    config, known = study.models[model], study.datasets[dataset].known_columns
    wanted = {votes_of(name) for name in config.targets}
    if config.soft_targets and known is not None and not wanted & known:
        raise ValueError(
            f"models.{model}.soft_targets: data set {dataset!r} has no column {sorted(wanted)[0]!r}; give vindr_cxr "
            "labels {votes: soft}, or a table such a continuous covariate"
        )


def _check_somewhere(study: Study, datasets: Iterable[str], columns: Iterable[str], place: str) -> None:
    """Each column must be one of these data sets', where all of them are known."""
    known = [study.datasets[name].known_columns for name in datasets]
    if any(one is None for one in known):
        return
    every = {"site"}.union(*(one for one in known if one is not None))
    for column in columns:
        if column not in every:
            raise ValueError(f"{place}: no data set read for it has a column {column!r}; {nearest(column, every)}")


def _no_circle(kind: str, links: dict[str, str | None]) -> None:
    for start in links:
        seen, here = [start], links[start]
        while here is not None:
            if here in seen:
                raise ValueError(f"{kind}: {' → '.join([*seen, here])} is a circle")
            seen.append(here)
            here = links.get(here)


def _check_readers(study: Study) -> None:
    copied = {pool: source_dataset(study, pool) for pool in study.pools}
    check_panels(study.readers, study.datasets, copied)
    for name, panel in study.readers.items():
        place = f"readers.{name}"
        for pool in panel.items.pools:
            _known(pool, study.pools, f"{place}.items.pools")
        _check_what_pools_show(study, panel, place)
        for pool in panel.items.pools:
            drawn_by = root_pool(study, pool).from_
            while drawn_by is not None:
                reward = study.generators[drawn_by].steered_by
                if reward is not None and reward.name == name:
                    raise ValueError(f"{place}.items.pools: {pool!r} is of {drawn_by!r}, which this panel steers")
                drawn_by = study.generators[drawn_by].init_from
            here: str | None = pool
            while here is not None:
                rule = study.pools[here].filter
                if rule is not None and rule.name == name:
                    raise ValueError(
                        f"{place}.items.pools: {pool!r} is filtered by what this panel says; show "
                        f"{study.pools[here].of!r}"
                    )
                here = study.pools[here].of


def _check_what_pools_show(study: Study, panel: Panel, place: str) -> None:
    """Masks and texts that are asked about must come with the images; texts by one rule, so that they tell nothing."""
    roots = {pool: root_pool(study, pool) for pool in panel.items.pools}
    for pool, root in roots.items():
        lacking = [s for s in panel.structures if root.from_ and s not in study.generators[root.from_].structures]
        if lacking:
            raise ValueError(f"{place}.structures: pool {pool!r} is drawn without masks of {lacking[0]!r}; drop one")
    told = {pool: prompt_of(study, root) for pool, root in roots.items()}
    if "prompt_fit" in panel.questions and (None in told.values() or len(set(told.values())) > 1):
        listed = ", ".join(f"{pool}: {prompt or 'none'}" for pool, prompt in told.items())
        raise ValueError(f"{place}.questions: prompt_fit: its pools need one prompt, the same ({listed})")


def _check_overlaps(study: Study) -> None:
    """A test set whose films are part of a training set is no external one: their patients are the same."""
    trained = {arm.real for arm in study.arms.values() if arm.real is not None}
    trained |= {name for generator in study.generators.values() for name in generator.train_on.datasets}
    trained |= {name for one in study.autoencoders.values() if one.train_on for name in one.train_on.datasets}
    films = {name: dataset.films for name, dataset in study.datasets.items() if dataset.films}
    for name in study.evaluate_on:
        for other in sorted(trained - {name}):
            if name in films and films.get(other) == films[name] and not study.datasets[name].shares_films:
                raise ValueError(
                    f"evaluate_on: films of {name!r} and {other!r} are of the same patients "
                    f"({films[name]}), so it is no "
                    f"external test; take another set, or say why in datasets.{name}.shares_films"
                )


def _check_prompt(study: Study, name: str, dataset: str) -> None:
    """The columns of a prompt must be in the data set."""
    prompt, place = study.prompts[name], f"prompts.{name}"
    try:
        fields = [field for field in fields_of(prompt, place) if field != FINDINGS]
    except SynthGainError as error:
        raise ValueError(str(error)) from None
    _check_columns(study, dataset, fields, f"{place}.template")
    _check_columns(study, dataset, prompt.of or (), f"{place}.of")
