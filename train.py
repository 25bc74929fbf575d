"""One run of DareU, from data to figure.

python train.py                                         40 invented authors; two are forgotten
python train.py --data mine.jsonl --forget "Ann Lee"
python train.py --methods dareu,npo,graddiff            beside loss-based methods
python train.py --from runs/authors-seed0 --forget "Lena Hale"    one more, after that run's
"""

import copy
from functools import partial

from minidareu.attribution import prefix_attribution, train_classifier
from minidareu.beyond.controls import controlled
from minidareu.pretrain import train_lm
from minidareu.report.details import N_ALONG, spread_rows
from minidareu.report.printed import SHOWN, print_data, print_outcome, print_samples
from minidareu.report.written import write_results
from minidareu.run.cli import run_main
from minidareu.run.flags import parse
from minidareu.run.folder import open_folder
from minidareu.run.methods import METHODS, method_names
from minidareu.run.prepare import make_task, prepare
from minidareu.run.stages import earlier_weights, fitted, kept_updates, new_classifier, new_gpt
from minidareu.run.stages import on_curve
from minidareu.scores.evaluation import evaluate, evaluate_fully, make_evaluator


def main(argv=None):
    # 1. Settings, data, tokenizer, and the folder of the run.
    config = parse(argv, __doc__)
    run = prepare(config)
    names = method_names(config)
    start = earlier_weights(run)
    with open_folder(run.folder, run.identity, config.overwrite):
        print_data(run)

        # 2. The original model reads all owners, the retrained model all but the forget owners.
        fit = partial(train_lm, rows=run.ended(run.train), training=config.training)
        original = fitted(run, "original", new_gpt(run), fit)
        models = {"original": original}
        if config.retrained:
            fit = partial(train_lm, rows=run.ended(run.split.retain), training=config.training)
            retrained = fitted(run, "retrained", new_gpt(run), fit)
            models["retrained"] = retrained

        # 3. The attribution classifier: Phase 1 of Algorithm 1.
        rows, training = run.labelled(run.train), config.classifier_training
        fit = partial(train_classifier, rows=rows, training=training)
        classifier = fitted(run, "classifier", new_classifier(run), fit)
        classifier.requires_grad_(False)

        # 4. Scores of these models, on greedy responses.
        evaluator = make_evaluator(run, models, classifier)
        gold = evaluate_fully(retrained, evaluator) if config.retrained else None
        evaluations = {"original": evaluate_fully(original, evaluator, gold)}
        if gold:
            evaluations["retrained"] = gold

        # 5. Unlearning: each method makes a copy of the original model forget.
        attribute = controlled(partial(prefix_attribution, classifier), config.reward)
        task = make_task(run, attribute)
        log = []
        for name in names:
            policy = copy.deepcopy(original)
            if name in start:  # the model that forgot the owners of an earlier run
                policy.load_state_dict(start[name])
            for figures in kept_updates(run, name, policy, unlearn=METHODS[name], task=task):
                log.append({"method": name, **figures})
                if config.curve and on_curve(figures):
                    log[-1] |= scores_along(policy, evaluator, gold)
            evaluations[name] = evaluate_fully(policy, evaluator, gold)
            log[-1]["scores"] = {key: evaluations[name].scores[key] for key in SHOWN}

        # 6. Files, and what came of it.
        write_results(run, evaluator, evaluations, log)
        print_outcome(evaluations, config.all_scores)
        print_samples(run, evaluations)


def scores_along(policy, evaluator, gold):
    """Scores of a method in the middle of its updates, and answers to some forget prompts."""
    evaluation = evaluate(policy, evaluator, gold)
    answers = [evaluation.responses.texts[i] for i in spread_rows(evaluator.forget, N_ALONG)]
    return {"scores": evaluation.scores, "answers": answers}


if __name__ == "__main__":
    run_main(main, "train.py")
