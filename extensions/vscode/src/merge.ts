// RFC 7396: how the daemon says what changes in a launch configuration.

/** `target` with `patch` merged in; neither is changed. */
export function merge(target: unknown, patch: unknown): unknown {
    if (!isObject(patch)) {
        return patch;
    }
    const merged: Record<string, unknown> = isObject(target) ? { ...target } : {};
    for (const [name, value] of Object.entries(patch)) {
        if (value === null) {
            delete merged[name];
        } else {
            merged[name] = merge(merged[name], value);
        }
    }
    return merged;
}

function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}
