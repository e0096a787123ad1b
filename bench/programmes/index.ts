/** The programmes there are. `hosts` compares the two hosts and belongs to no goal, so `all` leaves it out. */
import type { Programme } from '../programme.ts'
import { hosts } from './hosts.ts'

export const programmes: readonly Programme[] = []

export const besides: readonly Programme[] = [hosts]
