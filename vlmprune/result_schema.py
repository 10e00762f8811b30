"""result.json, field by field: the one documented schema of a finished run."""

RESULT_SCHEMA = {
    "schema": "1",
    "fingerprint": "sha256 of all that can change the answers",
    "settings": "as typed",
    "model, method, benchmark": "names of the choices; of model=path the folder's, of benchmark=folder with the "
    "folder's and six digits of its content",
    "ratio, keep": "what was asked for; null where it was not",
    "subset": "limit, shard and seed",
    "comparable": "runs may be compared where all are equal: benchmark, scorer, subset, prompt, model, dtype, judge, "
    "and, where they are not the usual ones: pictures (limits of pixels or tiles that are not the "
    "checkpoint's), generation and the convention of flops",
    "answers": {
        "metric, score, interval95": "the main metric, a fraction of 1 where it has a maximum; bootstrap clustered by "
        "image; null while the answers are not judged or have no public reference, and an interval that means nothing",
        "metrics": "every metric of the set by name, in the scale of its authors; {} where score is null",
        "samples, images": "that were answered",
        "by_category": "category -> score, samples",
        "tokens": "visual: total, kept (mean, min, max), layer_averaged; sequence: with text, at decoder layer 0",
        "positions": "of the decoder: limit, how many it has with its rotary embedding's scaling; longest, how many a "
        "prompt takes with its answer, at most (the largest position + 1 at decoder layer 0, and the new tokens); "
        "beyond, how many questions take more than the limit; null where its config names none; older results lack it",
        "flops": "per question, FLOP = 2 MAC: convention (the formula), vision, projector, selection, prefill, decode, "
        "total, unpruned_total; null where they cannot be counted, and flops_unknown says why",
    },
    "prompt_template": "the whole prompt with the place of one image or video, and {prompt} where the `prompt` of a "
    "line of predictions.jsonl stands; that of the first sample has it too; older results and lines lack both",
    "media": "images, or how many frames of a video were given, and how; the limits of their pixels or tiles in words",
    "bad_samples": "left out because they cannot be used (on_bad_sample=skip): count, ids (the first 20)",
    "timings": {
        "latency": "pruned and unpruned in turn at batch 1, ms: median_ms, p90_ms and n of each part, which are "
        "vision, selection, projector, prefill (with all selection), first_token (all up to its logits), "
        "decode_per_token, other, end_to_end; samples, batch_size; tokens: of the mean prompt, text, visual_before and "
        "visual_after pruning (mean over layers); conditions: device, device_name, dtype, attention, threads, "
        "clocks_mhz (null on a CPU)",
        "evaluation": "of the first process's share: seconds spent waiting for media, on beginnings of prompts that "
        "several questions share (media_s, shared_s, beginnings) and on questions (questions_s); whole_prompts: "
        "questions asked without a shared beginning; batch_size asked for and used, which is less after out-of-memory",
        "evaluation_s, samples_per_s": "the batched evaluation, by all processes, of the samples that were open",
        "peak_memory_mb, peak_memory_since": "of loading and evaluation, the most of any device: torch's allocator on "
        "a GPU, the process's resident set on a CPU, since its reset, or since process start where the system does not "
        "let it be reset; in a sweep that includes the model and the encodings that earlier jobs left in memory",
        "kv_cache_bytes": "of one question's prompt, pruned and unpruned",
    },
    "environment": "device, device_name, devices (how many processes shared the questions), threads and cpus, dtype, "
    "attention, batch_size (asked for), model (its settings), limits (pixels or tiles of a picture in force; {} for "
    "families without), generation (of the checkpoint's generation_config: used, what changes greedy answers; ignored, "
    "what does not belong to them), decoding (values in force, by their names in a generation_config), checkpoint and "
    "data (their identities), python, platform, versions (of libraries), git (vlmprune's commit, + "
    "where the checkout has changes; null of a wheel)",
    "judge": "of a judged benchmark, once asked: model, base_url, protocol/version",
    "rescored": "by `vlmprune score`: UTC date and time, vlmprune's version; absent where it never was",
    "finished": "UTC date and time",
}
