/** Every fault that there is. */
import type { Fault } from './fault.ts'
import { HOST_FAULTS } from './host-faults.ts'
import { NETWORK_FAULTS } from './network-faults.ts'
import { OBJECT_FAULTS } from './object-faults.ts'
import { PROCESS_FAULTS } from './process-faults.ts'
import { WARM_FAULTS } from './warm-faults.ts'

export const FAULTS: readonly Fault[] = [...PROCESS_FAULTS, ...NETWORK_FAULTS, ...HOST_FAULTS, ...OBJECT_FAULTS, ...WARM_FAULTS]
