"""Ten questions to a real model, answered at temperature 0 by mlx_lm in float32, with each choice's margin.

    PYTHONPATH=tests python -m golden.answers FOLDER   # writes answers/NAME.json; test_answers.py holds loam to it

A margin is the chosen token's logit less the second's, in standard deviations of all logits at that step."""

import json
import pathlib
import sys

QUESTIONS = [
    "What is the capital of France?",
    "Name the planets of the solar system in order from the sun.",
    "Write a C function that returns the larger of two integers.",
    "What is 17 times 23?",
    "Translate 'Good morning, my friends' into Spanish.",
    "Why is the sky blue?",
    "Write a Python one-liner that reverses a string.",
    "Who wrote Pride and Prejudice?",
    "List three things that plants need to grow.",
    "Explain what a hash table is in one sentence.",
]
TOKENS = 40
FOLDER = pathlib.Path(__file__).parent / "answers"


def main():
    from mlx_lm.utils import load_tokenizer

    from golden import tiny

    folder = pathlib.Path(sys.argv[1])
    reference, tokenizer = tiny.Reference(folder), load_tokenizer(folder)
    answers = []
    for question in QUESTIONS:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
        steps = reference.greedy(prompt, TOKENS, end=tokenizer.eos_token_id)
        ids = [id for id, *_ in steps if id is not None]
        answers.append({"question": question, "prompt_tokens": len(prompt), "text": tokenizer.decode(ids), "ids": [id for id, *_ in steps],
                        "margins": [round(margin / deviation, 4) for _, margin, deviation in steps]})
        print(question, "→", answers[-1]["text"], flush=True)
    lines = ",\n".join(json.dumps(a, ensure_ascii=False) for a in answers)
    (FOLDER / f"{folder.name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
