/**
 * The sizes of the wire, small: in real ones a schedule of a hundred steps would seldom fill a window, cut a line into
 * parts or reach the end of a spool's patience. The proportions are about those of shared/limits.ts, the times are its own.
 */
export const scaledSizes = {
  MAX_MESSAGE: 1024 + 512,
  RUN_WINDOW: 512,
  CONNECTION_WINDOW: 1024,
  COALESCE_BYTES: 128,
  SPOOL_SOFT_BYTES: 6 * 1024,
  SPOOL_HARD_BYTES: 16 * 1024,
  LINE_CAP: 16 * 1024,
}
